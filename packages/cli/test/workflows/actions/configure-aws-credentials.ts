// Stands in for aws-actions/configure-aws-credentials: keys of an hour for a role, in the environment of the steps that follow.
import { exportVariable, input, mask, need, run } from './toolkit.ts';

await run(async () => {
  if (input('aws-region') === '') throw new Error('Input required and not supplied: aws-region');
  if (!/^arn:aws:iam::\d+:role\/\S+$/.test(input('role-to-assume'))) throw new Error('Could not load credentials from any providers');
  const keys = { AWS_ACCESS_KEY_ID: need('STANDIN_AWS_ACCESS_KEY_ID'), AWS_SECRET_ACCESS_KEY: need('STANDIN_AWS_SECRET_ACCESS_KEY') };
  for (const [name, value] of Object.entries(keys)) {
    mask(value);
    exportVariable(name, value);
  }
  exportVariable('AWS_REGION', input('aws-region'));
});
