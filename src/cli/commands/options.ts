// Options that several commands have.
export const BASE64_OPTION = ['--base64', 'keys and values are base64, given and printed'] as const
export const QUIET_OPTION = ['-q, --quiet', 'no progress and no summary'] as const
