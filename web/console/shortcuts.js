// Keys that work wherever nothing is being typed: / for the search and n for a new account.
import { lacking } from './scopes.js';
import { openAccount } from './pages/accounts.js';

const keys = {
  '/': () => {
    const input = document.querySelector('#search input');
    input.focus();
    input.select();
  },
  n: () => { if (!lacking('accounts:write')) openAccount(); },
};

// watchShortcuts listens for them.
export function watchShortcuts() {
  document.addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest('input, textarea, select, dialog') || document.querySelector('dialog[open]')) return;
    const run = keys[event.key];
    if (!run) return;
    event.preventDefault();
    run();
  });
}
