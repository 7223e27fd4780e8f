import { userInfo } from 'node:os';

/** Environment variables, as process.env has them. */
export type Environment = Readonly<Record<string, string | undefined>>;

/** The value of an environment variable; undefined when it is unset or empty: an empty variable is an unset variable, everywhere. */
export function envOf(name: string, env: Environment = process.env): string | undefined {
  return env[name] || undefined;
}

/** Removes the empty variables of an environment, for libraries and children that take an empty variable for a set one. */
export function dropEmpty(env: NodeJS.ProcessEnv): void {
  for (const [name, value] of Object.entries(env)) if (value === '') delete env[name];
}

/**
 * Names of variables that hold what signs, publishes, or speaks for somebody to a server, and of a runner's files by which a step of a workflow
 * sets those of later steps.
 */
const SECRET =
  /^(?:FLATCAR_EXT_KEYS|AWS_\w+|ACTIONS_\w+|GITHUB_(?:TOKEN|ENV|OUTPUT|PATH|STATE|STEP_SUMMARY)|SSH_AUTH_SOCK|GPG_AGENT_INFO|(?:\w+_)?(?:TOKEN|KEY|SECRET|PASSWORD|PASSWD|PASSPHRASE|PAT|AUTH|AUTHTOKEN|CREDENTIALS?))$/i;

/** An environment without those: what compiles, tests or reads other people's code is not given them. */
export function withoutSecrets(env: Environment = process.env): Record<string, string> {
  return Object.fromEntries(
    Object.entries(env).flatMap(([name, value]) => (value === undefined || SECRET.test(name) ? [] : [[name, value] as const])),
  );
}

/** The home folder in the user database (passwd); undefined for a user without an entry, as in many containers. */
function homeInPasswd(): string | undefined {
  try {
    return userInfo().homedir || undefined;
  } catch {
    return undefined; // uv_os_get_passwd: no such user
  }
}

/** Whether root runs this for somebody else by sudo: then HOME and XDG_CACHE_HOME may still be those of that user. */
export const isSudo = (env: Environment = process.env): boolean => process.geteuid?.() === 0 && (envOf('SUDO_UID', env) ?? '0') !== '0';

/**
 * The user's home folder: HOME where it is an absolute path, else the one in the user database. Undefined when neither is known: a relative
 * HOME would mean another folder for every command. Under sudo it is root's own, also where HOME was kept: what root writes into the
 * home of a user, that user could not write any more.
 */
export function homeOf(env: Environment = process.env): string | undefined {
  const home = envOf('HOME', env);
  return home?.startsWith('/') === true && !isSudo(env) ? home : homeInPasswd();
}
