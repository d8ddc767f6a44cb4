// A field in which an account is picked: it is searched for as one types, and who it belongs to is shown before anything is sent.
import { h, fill, newID } from './dom.js';
import { UUID, findAccounts, readOrNull } from './find.js';
import { amount, named, short } from './format.js';

const PAUSE = 200; // milliseconds without a key before a search

// picker makes the field, a combobox (ARIA 1.2). field.currency limits the search, field.but is an account that is left out, and
// field.picked is called when an account has been picked from the list.
export function picker(field, common) {
  const listID = newID('accounts');
  const list = h('ul', { id: listID, role: 'listbox', class: 'options', 'aria-label': 'Accounts found', hidden: true });
  const chosenLine = h('p', { class: 'chosen', role: 'status' });
  const input = h('input', {
    ...common, type: 'text', autocomplete: 'off', spellcheck: 'false', placeholder: 'name, id or reference',
    role: 'combobox', 'aria-expanded': 'false', 'aria-controls': listID, 'aria-autocomplete': 'list',
  });
  let chosen = null;
  let found = [];
  let active = -1;
  let timer = null;
  let search = Promise.resolve();
  let turn = new AbortController();

  const open = (shown) => {
    list.hidden = !shown;
    input.setAttribute('aria-expanded', String(shown));
    if (!shown) point(-1);
  };
  const point = (i) => {
    active = i;
    [...list.children].forEach((option, n) => option.setAttribute('aria-selected', String(n === i)));
    if (i >= 0) {
      input.setAttribute('aria-activedescendant', list.children[i].id);
      list.children[i].scrollIntoView({ block: 'nearest' });
    } else {
      input.removeAttribute('aria-activedescendant');
    }
  };
  const choose = (account, keep) => {
    chosen = account;
    if (!keep) input.value = named(account.owner);
    fill(chosenLine, h('b', null, named(account.owner)), account.status !== 'active' && ` · ${account.status}`, ` · ${account.currency} · `, h('code', { title: account.account_id }, short(account.account_id)));
    open(false);
  };
  const pick = (account) => {
    choose(account);
    field.picked?.();
  };
  const look = async () => {
    turn.abort();
    turn = new AbortController();
    const { signal } = turn;
    const text = input.value.trim();
    if (text === '') {
      open(false);
      return;
    }
    try {
      found = (await findAccounts(text, { currency: field.currency, signal })).filter((one) => one.account_id !== field.but);
    } catch {
      return; // the server has the last word when the form is sent
    }
    if (signal.aborted) return;
    if (UUID.test(text)) {
      if (found.length > 0) choose(found[0], true);
      return;
    }
    fill(list, found.map((one) => h('li', {
      id: newID('option'), role: 'option', 'aria-selected': 'false',
      on: { mousedown: (event) => event.preventDefault(), click: () => pick(one) }, // the focus stays in the input
    }, h('b', null, named(one.owner)), h('span', { class: 'meta' }, `${one.status === 'active' ? '' : `${one.status} · `}${amount(one.balance)} ${one.currency} · `, short(one.account_id)))));
    if (found.length === 0) fill(chosenLine, 'No account matches.');
    open(found.length > 0 && document.activeElement === input);
  };
  const searchNow = () => {
    clearTimeout(timer);
    timer = null;
    search = look();
    return search;
  };
  input.addEventListener('input', () => {
    chosen = null;
    fill(chosenLine);
    clearTimeout(timer);
    timer = setTimeout(searchNow, PAUSE);
  });
  input.addEventListener('blur', () => open(false));
  input.addEventListener('keydown', (event) => {
    if (list.hidden) return;
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) point((active + step + found.length) % found.length);
    else if (event.key === 'Enter' && active >= 0) pick(found[active]);
    else if (event.key === 'Escape') open(false);
    else return;
    event.preventDefault();
  });

  return {
    element: h('div', { class: 'picker' }, input, list, chosenLine),
    input,
    value: () => chosen?.account_id ?? input.value.trim(),
    // set shows the account with an id, or none.
    async set(id) {
      if (id === (chosen?.account_id ?? input.value.trim())) return;
      chosen = null;
      input.value = id;
      fill(chosenLine);
      if (!UUID.test(id)) return;
      const account = await readOrNull(`/accounts/${id}`).catch(() => null); // the page says what is wrong
      if (account && chosen === null && input.value === id) choose(account);
    },
    // settled tells whether the account that would be sent has been shown. If it is shown only now, it is to be confirmed.
    async settled() {
      if (chosen || input.value.trim() === '') return true;
      await (timer === null ? search : searchNow());
      if (chosen) return false;
      if (UUID.test(input.value.trim()) || found.length !== 1) return true;
      choose(found[0]);
      return false;
    },
  };
}
