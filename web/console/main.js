// Which page is shown: the hash of the address is its path and query, so that every page can be linked to.
import { h, fill, put } from './dom.js';
import { get } from './api.js';
import { watchKey } from './key.js';
import { watchShortcuts } from './shortcuts.js';
import * as overview from './pages/overview.js';
import * as accounts from './pages/accounts.js';
import * as account from './pages/account.js';
import * as movements from './pages/movements.js';
import * as log from './pages/log.js';
import * as projections from './pages/projections.js';
import * as projection from './pages/projection.js';
import * as search from './pages/search.js';
import * as travel from './pages/travel.js';
import * as webhooks from './pages/webhooks.js';

const pages = [
  [/^\/$/, overview],
  [/^\/accounts$/, accounts],
  [/^\/accounts\/([^/]+)(?:\/(statement|holds|events))?$/, account],
  [/^\/movements$/, movements],
  [/^\/log(?:\/(\d+))?$/, log],
  [/^\/projections$/, projections],
  [/^\/projections\/([^/]+)$/, projection],
  [/^\/time-travel$/, travel],
  [/^\/search$/, search],
  [/^\/webhooks$/, webhooks],
];

const main = document.getElementById('main');
let current = { path: null, view: null, leave: new AbortController() };

// Where the reader was on each page of the browser's history, so that Back and Forward lead there again.
const places = new Map();
let pending = null; // the arrival that waits until its page has been read
history.scrollRestoration = 'manual';

// entered tells where the reader was on the page that the browser has come back to, or undefined for a new one.
function entered() {
  const known = places.get(history.state?.entry);
  if (!history.state?.entry) history.replaceState({ entry: crypto.randomUUID() }, '');
  current.entry = history.state.entry;
  return known;
}

// go shows the page of a new address, and takes the reader where it is to be read.
function go() {
  const link = document.activeElement?.closest('main a');
  const place = pending?.place ?? { y: window.scrollY, href: link?.getAttribute('href') };
  pending = null;
  places.set(current.entry, place);
  const turned = link?.closest('.pager');
  const tabbed = link?.closest('.tabs') && place;
  const before = entered() ?? tabbed;
  const entry = current.entry;
  const changed = show(false);
  current.entry = entry;
  const root = main.firstElementChild;
  if (before) arrive(root, () => back(root, before), before);
  else if (!changed && turned) arrive(root, () => focusOn(root.querySelector('.panel:has(+ .turn) h2'), true));
}

// arrive runs what is to be done once the page has been read, unless the reader has left before that. A reader who leaves so early has
// not reached the place that he came back to: that place is remembered again.
async function arrive(root, then, place) {
  const waiting = { place };
  pending = waiting;
  for (let n = 0; n < 200 && root.querySelector('[aria-busy]'); n += 1) await new Promise((resolve) => { setTimeout(resolve, 25); });
  if (pending !== waiting) return;
  pending = null;
  if (root.isConnected) then();
}

function back(root, { y, href }) {
  const link = href && [...root.querySelectorAll('a')].find((one) => one.getAttribute('href') === href);
  if (link) link.focus({ preventScroll: true });
  else focusOn(root.querySelector('h1'));
  window.scrollTo(0, y);
}

function focusOn(heading, scroll) {
  heading.setAttribute('tabindex', '-1');
  heading.focus({ preventScroll: true });
  if (scroll) heading.scrollIntoView({ block: 'start' });
}

// show puts the page of the address on the screen. A page that can be updated is, when only the query has changed, so
// that a form that caused it keeps its focus. It tells whether the page is another.
function show(force) {
  const [path, query] = (location.hash.slice(1) || '/').split('?');
  const asked = new URLSearchParams(query);
  const first = current.path === null;
  if (!force && path === current.path && current.view?.update) {
    current.view.update(asked);
    return false;
  }
  current.leave.abort();
  const leave = new AbortController();
  const [page, parts] = find(path);
  const root = h('div', { class: 'page' });
  mark(path);
  if (page !== search) document.querySelector('#search input').value = '';
  const view = page.show({ root, parts, query: asked, signal: leave.signal });
  current = { path, view, leave };
  fill(main, root);
  main.removeAttribute('aria-busy');
  const heading = root.querySelector('h1');
  document.title = `${heading.textContent} · Passbook`;
  if (!first) {
    window.scrollTo(0, 0);
    focusOn(heading);
  }
  return true;
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

document.getElementById('search').addEventListener('submit', (event) => {
  event.preventDefault();
  location.hash = `/search?${new URLSearchParams({ q: event.target.elements.q.value.trim() })}`;
});
document.getElementById('skip').addEventListener('click', (event) => {
  event.preventDefault(); // the hash names a page here
  main.focus();
});
window.addEventListener('hashchange', go);
watchTheme();
watchShortcuts();
watchKey(() => show(true));
show(false);
entered();
get('/livez').then(({ body }) => put(document.getElementById('version'), body.version)).catch(() => {});
