// Everything runs from the project's root, wherever it is typed.

import { fileURLToPath } from 'node:url';

process.chdir(fileURLToPath(new URL('..', import.meta.url)));
