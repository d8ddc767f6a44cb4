// Which page is shown: the hash of the address is its path and query, so that every page can be linked to.
import { h, fill, put } from './dom.js';
import { get } from './api.js';
import { watchKey } from './key.js';
import * as overview from './pages/overview.js';
import * as accounts from './pages/accounts.js';
import * as account from './pages/account.js';
import * as movements from './pages/movements.js';
import * as log from './pages/log.js';
import * as projections from './pages/projections.js';
import * as projection from './pages/projection.js';
import * as travel from './pages/travel.js';

const pages = [
  [/^\/$/, overview],
  [/^\/accounts$/, accounts],
  [/^\/accounts\/([^/]+)(?:\/(statement|holds|events))?$/, account],
  [/^\/movements$/, movements],
  [/^\/log(?:\/(\d+))?$/, log],
  [/^\/projections$/, projections],
  [/^\/projections\/([^/]+)$/, projection],
  [/^\/time-travel$/, travel],
];

const main = document.getElementById('main');
let current = { path: null, view: null, leave: new AbortController() };

// show puts the page of the address on the screen. A page that can be updated is, when only the query has changed, so
// that a form that caused it keeps its focus.
function show(force) {
  const [path, query] = (location.hash.slice(1) || '/').split('?');
  const asked = new URLSearchParams(query);
  const first = current.path === null;
  if (!force && path === current.path && current.view?.update) {
    current.view.update(asked);
    return;
  }
  current.leave.abort();
  const leave = new AbortController();
  const [page, parts] = find(path);
  const root = h('div', { class: 'page' });
  mark(path);
  const view = page.show({ root, parts, query: asked, signal: leave.signal });
  current = { path, view, leave };
  fill(main, root);
  main.removeAttribute('aria-busy');
  const heading = root.querySelector('h1');
  document.title = `${heading.textContent} · Passbook`;
  if (!first) {
    window.scrollTo(0, 0);
    heading.setAttribute('tabindex', '-1');
    heading.focus({ preventScroll: true });
  }
}

const missing = {
  show({ root }) {
    fill(root, h('h1', null, 'No such page'), h('p', { class: 'state' }, 'There is no page at this address. ', h('a', { href: '#/' }, 'Go to the overview')));
  },
};

function find(path) {
  for (const [pattern, page] of pages) {
    const match = pattern.exec(path);
    if (match) return [page, match.slice(1)];
  }
  return [missing, []];
}

function mark(path) {
  for (const link of document.querySelectorAll('#nav a')) {
    const target = link.hash.slice(1);
    const here = target === '/' ? path === '/' : path === target || path.startsWith(`${target}/`);
    if (here) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
}

function watchTheme() {
  const select = document.getElementById('theme');
  select.value = document.documentElement.dataset.theme ?? '';
  select.addEventListener('change', () => {
    if (select.value) document.documentElement.dataset.theme = select.value;
    else delete document.documentElement.dataset.theme;
    try {
      localStorage.setItem('passbook-theme', select.value);
    } catch { /* storage is closed to this page: the choice holds until it is loaded again */ }
  });
}

document.getElementById('skip').addEventListener('click', (event) => {
  event.preventDefault(); // the hash names a page here
  main.focus();
});
window.addEventListener('hashchange', () => show(false));
watchTheme();
watchKey(() => show(true));
show(false);
get('/livez').then(({ body }) => put(document.getElementById('version'), body.version)).catch(() => {});
