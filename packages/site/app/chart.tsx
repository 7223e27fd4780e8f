import { formatBytes } from '@flatcar/core/browser';
import type { JSX } from 'preact';

/** A point of a chart: a version, and the size of its image in bytes. */
export interface SizePoint {
  readonly version: string;
  readonly size: number;
}

/** One line of a chart. */
export interface SizeLine {
  readonly name: string;
  readonly points: readonly SizePoint[];
}

const [WIDTH, HEIGHT, LEFT, BOTTOM] = [640, 180, 70, 24];

/** Sizes of images over versions, oldest first; the table of images has the same numbers for those who cannot see the chart. */
export function SizeChart({ lines }: { lines: readonly SizeLine[] }): JSX.Element {
  const versions = lines.reduce<readonly SizePoint[]>((longest, { points }) => (points.length > longest.length ? points : longest), []);
  const most = Math.max(1, ...lines.flatMap(({ points }) => points.map(({ size }) => size)));
  const x = (version: string): number => {
    const at = versions.findIndex((one) => one.version === version);
    return LEFT + ((WIDTH - LEFT - 20) * Math.max(at, 0)) / Math.max(1, versions.length - 1);
  };
  const y = (size: number): number => 10 + (HEIGHT - BOTTOM - 10) * (1 - size / most);
  const first = versions[0]?.version ?? '';
  const last = versions.at(-1)?.version ?? '';
  return (
    <figure>
      <svg
        viewBox={`0 0 ${WIDTH} ${HEIGHT}`}
        role="img"
        aria-label={`Sizes from version ${first} to ${last}, at most ${formatBytes(most)}`}
      >
        {[0, most / 2, most].map((size) => (
          <g key={size} class="grid">
            <line x1={LEFT} x2={WIDTH - 20} y1={y(size)} y2={y(size)} />
            <text x={LEFT - 8} y={y(size) + 4} text-anchor="end">
              {formatBytes(size)}
            </text>
          </g>
        ))}
        {lines.map(({ name, points }, index) => (
          <g key={name} class={`line line-${index}`}>
            <polyline points={points.map(({ version, size }) => `${x(version)},${y(size)}`).join(' ')} />
            {points.map(({ version, size }) => (
              <circle key={version} cx={x(version)} cy={y(size)} r="3.5">
                <title>{`${version} ${name}: ${formatBytes(size)}`}</title>
              </circle>
            ))}
          </g>
        ))}
        <text x={LEFT} y={HEIGHT - 6}>
          {first}
        </text>
        <text x={WIDTH - 20} y={HEIGHT - 6} text-anchor="end">
          {last === first ? '' : last}
        </text>
      </svg>
      <figcaption>
        {lines.map(({ name }, index) => (
          <span key={name} class={`key line-${index}`}>
            {name}
          </span>
        ))}
      </figcaption>
    </figure>
  );
}
