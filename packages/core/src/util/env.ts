import { userInfo } from 'node:os';

/** Environment variables, in the form of process.env. */
export type Environment = Readonly<Record<string, string | undefined>>;

/** The value of an environment variable; undefined if it is unset or empty, which means the same everywhere. */
export function envOf(name: string, env: Environment = process.env): string | undefined {
  return env[name] || undefined;
}

/** Removes empty variables from an environment, for libraries and children that treat an empty variable as set. */
export function dropEmpty(env: NodeJS.ProcessEnv): void {
  for (const [name, value] of Object.entries(env)) if (value === '') delete env[name];
}

/**
 * Names of variables with signing keys, credentials for publishing or for a server, and the files of a runner by which a step of a workflow
 * sets variables of later steps.
 */
const SECRET =
  /^(?:FLATCAR_EXT_KEYS|AWS_\w+|ACTIONS_\w+|GITHUB_(?:TOKEN|ENV|OUTPUT|PATH|STATE|STEP_SUMMARY)|SSH_AUTH_SOCK|GPG_AGENT_INFO|(?:\w+_)?(?:TOKEN|KEY|SECRET|PASSWORD|PASSWD|PASSPHRASE|PAT|AUTH|AUTHTOKEN|CREDENTIALS?))$/i;

/** An environment without secrets, for programs that compile, test or read other people's code. */
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

/** Whether root runs this for another user through sudo: HOME and XDG_CACHE_HOME may still be those of that user. */
export const isSudo = (env: Environment = process.env): boolean => process.geteuid?.() === 0 && (envOf('SUDO_UID', env) ?? '0') !== '0';

/**
 * The user's home folder: HOME if it is an absolute path, else the one in the user database. Undefined if neither is known: a relative
 * HOME would be another folder for every command. Under sudo it is root's own home, even if HOME was kept: a user could not overwrite files that
 * root writes into that user's home.
 */
export function homeOf(env: Environment = process.env): string | undefined {
  const home = envOf('HOME', env);
  return home?.startsWith('/') === true && !isSudo(env) ? home : homeInPasswd();
}
