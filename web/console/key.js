// The API key of this tab. It is in sessionStorage, so that it ends with the tab and no other tab has it.
import { fields } from './form.js';
import { h } from './dom.js';

const NAME = 'passbook-key';
let asking = null;

// authorization returns the value of the header, or null without a key.
export function authorization() {
  const key = sessionStorage.getItem(NAME);
  return key ? `Bearer ${key}` : null;
}

function show() {
  document.getElementById('key').hidden = authorization() === null;
}

// forgetKey takes the key away.
export function forgetKey() {
  sessionStorage.removeItem(NAME);
  show();
}

// askForKey shows the dialog for a key, one at a time, and tells whether one was given.
export function askForKey(refused) {
  asking ??= ask(refused).finally(() => { asking = null; });
  return asking;
}

function ask(refused) {
  const { elements, inputs } = fields([{
    name: 'key', label: 'API key', type: 'password', required: true, autocomplete: 'off',
    hint: 'It is kept only for this tab, until you close it.',
  }]);
  return new Promise((resolve) => {
    const form = h('form', {
      novalidate: true, class: 'form',
      on: {
        submit(event) {
          event.preventDefault();
          const key = inputs.get('key').value.trim();
          if (key === '') {
            inputs.get('key').focus();
            return;
          }
          sessionStorage.setItem(NAME, key);
          show();
          dialog.close('given');
        },
      },
    },
    h('h2', { id: 'key-title' }, 'A key is needed'),
    refused
      ? h('p', { class: 'problem', role: 'alert' }, 'The server did not accept the key. It may be mistyped, expired or revoked.')
      : h('p', null, 'This server requires an API key. If you have none, create one with ', h('code', null, 'server keys create'), '.'),
    elements,
    h('div', { class: 'actions' },
      h('button', { type: 'button', class: 'quiet', on: { click: () => dialog.close('') } }, 'Not now'),
      h('button', { type: 'submit', class: 'primary' }, 'Use this key')));
    const dialog = h('dialog', {
      'aria-labelledby': 'key-title',
      on: { close() { dialog.remove(); resolve(dialog.returnValue === 'given'); } },
    }, form);
    document.body.append(dialog);
    dialog.showModal();
  });
}

// watchKey wires the sidebar: whether there is a key, and the button that forgets it.
export function watchKey(changed) {
  document.getElementById('forget').addEventListener('click', () => { forgetKey(); changed(); });
  show();
}
