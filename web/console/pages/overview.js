// Overview: the money first, then how busy the log is, how far the projections are behind, and what is unhealthy.
import { h, fill, put } from '../dom.js';
import { get, health } from '../api.js';
import { chart } from '../chart.js';
import { amount, balances, count, figure, rate, span, sum, time } from '../format.js';
import { ofAny } from '../movements.js';
import { accountLink } from '../owners.js';
import { badge, every, note, pairs, panel, table, trouble } from '../parts.js';
import { week } from '../week.js';
import { standing as standingOf } from './webhooks.js';

const KEEP = 120; // seconds that the charts show
const SOON = 7; // days within which a hold is about to expire
const NEXT = 5; // holds that are shown

function tile(name) {
  const value = h('p', { class: 'value' }, '–');
  const about = h('p', { class: 'meta' }, ' ');
  return { element: h('div', { class: 'tile' }, h('h2', null, name), value, about), set(a, b) { put(value, a); put(about, b); } };
}

export function show({ root, signal }) {
  const tiles = { events: tile('Events a second'), head: tile('Head of the log'), lag: tile('Furthest behind'), accounts: tile('Active accounts') };
  const events = panel('Events a second', { about: 'During the last second.', tall: true });
  const lag = panel('Projection lag', { about: 'Events not applied yet.', tall: true });
  const totals = panel('Money by currency', { about: 'Everything that ever came in and went out.', wide: true });
  const currency = h('select', { 'aria-label': 'Currency' });
  const asOf = h('span', { class: 'about' }, 'Days of UTC.');
  const days = panel('The last seven days', { actions: h('div', { class: 'choice' }, asOf, currency), wide: true });
  const largest = panel('Largest movements', { about: 'Of the last seven days, in the same currency.', wide: true });
  const holds = panel('Holds about to expire', { about: `Within ${SOON} days.`, wide: true });
  const webhooks = panel('Webhooks that fail', { wide: true, actions: h('p', { class: 'about' }, h('a', { href: '#/webhooks' }, 'All webhooks')) });
  const parts = panel('Health', { about: 'The current state of every component.', wide: true });
  fill(root,
    h('h1', null, 'Overview'),
    h('div', { class: 'columns' }, totals.element, days.element, largest.element, holds.element, webhooks.element),
    h('h2', { class: 'part' }, 'Operations'),
    h('div', { class: 'tiles' }, Object.values(tiles).map((one) => one.element)),
    h('div', { class: 'columns' }, parts.element, events.element, lag.element));
  followStats(events.body, tiles, signal);
  followProjections(lag.body, tiles, signal);
  followTotals(totals.body, (all) => choose(currency, all), signal);
  followWeek(days.body, largest.body, asOf, currency, signal);
  followHolds(holds.body, signal);
  followWebhooks(webhooks.body, signal);
  followHealth(parts.body, signal);
}

// keep adds a point and drops those that are too old.
function keep(points, y, now) {
  points.push({ x: now, y });
  while (points[0].x < now - KEEP * 1000) points.shift();
}

// since is where a chart begins: at its first point, but 20 seconds back at least.
const since = (points, now) => Math.min(points[0].x, now - 20_000);

function followStats(body, tiles, signal) {
  const line = chart({ label: 'Events a second', names: ['events a second'], format: rate });
  const points = [];
  fill(body, line.element);
  every(1000, signal, async () => {
    const { body: stats } = await get('/stats', { signal });
    const now = Date.now();
    keep(points, stats.events_per_second.last_1s, now);
    line.draw([points], { from: since(points, now), to: now });
    tiles.events.set(rate(stats.events_per_second.last_1s), `${rate(stats.events_per_second.last_10s)} over 10 s, ${rate(stats.events_per_second.last_60s)} over 60 s`);
    tiles.accounts.set(count(stats.accounts.active), `${count(stats.accounts.suspended)} suspended, ${count(stats.accounts.closed)} closed`);
  }, (problem) => fill(body, trouble(problem)));
}

function followProjections(body, tiles, signal) {
  let line = null;
  let points = null;
  every(1000, signal, async () => {
    const { body: { projections } } = await get('/projections', { signal });
    if (!line) {
      line = chart({ label: 'Projection lag in events', names: projections.map((one) => one.id), format: count });
      points = projections.map(() => []);
      fill(body, line.element);
    }
    const now = Date.now();
    projections.forEach((one, i) => keep(points[i], one.lag, now));
    line.draw(points, { from: since(points[0], now), to: now });
    const last = projections.reduce((a, b) => (b.lag > a.lag ? b : a));
    tiles.head.set(count(last.head), 'events ever recorded');
    tiles.lag.set(count(last.lag), last.lag === 0 ? 'all projections are up to date' : `${last.id}, by ${span(last.lag_seconds)}`);
  }, (problem) => fill(body, trouble(problem)));
}

// choose offers the currencies there are. The one with the most accounts is chosen first.
function choose(select, totals) {
  const codes = totals.map((total) => total.currency);
  if (codes.join() === [...select.options].map((option) => option.value).join()) return;
  const before = select.value;
  fill(select, codes.map((code) => h('option', { value: code }, code)));
  select.value = before || totals.reduce((a, b) => (b.accounts > a.accounts ? b : a)).currency;
  select.dispatchEvent(new Event('change'));
}

function followWeek(body, below, asOf, currency, signal) {
  const rows = table('Money by day', [
    { head: 'Day', class: 'lead', cell: (one) => one.day },
    { head: 'In', money: true, cell: (one) => amount(one.in) },
    { head: 'Out', money: true, cell: (one) => amount(one.out) },
    { head: 'Balance', money: true, cell: (one) => h('b', null, amount(one.balance)) },
  ]);
  const movements = table('Largest movements', ofAny, { empty: 'No money moved.' });
  let shown = '';
  const now = every(10_000, signal, async () => {
    if (currency.value === '') return;
    const found = await week(currency.value, signal);
    put(asOf, found.days ? `Days of UTC, as of position ${count(found.position)}.` : 'Days of UTC.');
    if (JSON.stringify(found) === shown) return;
    shown = JSON.stringify(found);
    if (!found.days) {
      fill(body, note(`${count(found.many)} movements in ${currency.value} are too many to add up here: the API has no sums by day.`));
      fill(below, note('They are too many to compare.'));
      return;
    }
    rows.rows(found.days);
    movements.rows(found.largest);
    fill(body, rows.element);
    fill(below, movements.element);
  }, (problem) => { fill(body, trouble(problem)); fill(below); });
  currency.addEventListener('change', now);
}

// followHolds shows how much is held in each currency by holds that expire soon, and the next of them.
function followHolds(body, signal) {
  const rows = table('Holds about to expire', [
    { head: 'Expires', cell: (one) => time(one.expires_at) },
    { head: 'Account', class: 'lead', cell: (one) => accountLink(one.account_id, one.position, '/holds') },
    { head: 'Reference', class: 'text', cell: (one) => one.reference ?? '–' },
    { head: 'Amount', money: true, cell: (one) => [h('b', null, amount(one.amount)), ` ${one.currency}`] },
  ]);
  let shown = '';
  every(10_000, signal, async () => {
    const before = new Date(Date.now() + SOON * 864e5).toISOString();
    const { body: page } = await get('/holds', { query: { status: 'open', expires_before: before, limit: 500, count: true }, signal });
    const next = page.holds.slice(0, NEXT);
    if (JSON.stringify(page) === shown) return;
    shown = JSON.stringify(page);
    if (next.length === 0) {
      fill(body, note(`No open hold expires within ${SOON} days.`));
      return;
    }
    rows.rows(next);
    const rest = page.total - next.length;
    fill(body, h('div', { class: 'sums' }, pairs([...Map.groupBy(page.holds, (one) => one.currency)].map(([code, list]) => [
      `${count(list.length)} in ${code}`, figure(sum(list.map((one) => one.amount)), code),
    ]))), rows.element,
    rest > 0 && h('p', { class: 'rest meta' }, `And ${page.total_exceeds ? 'at least ' : ''}${count(rest)} more${page.next_cursor ? `; the sums are of the first ${count(page.holds.length)}` : ''}.`));
  }, (problem) => fill(body, trouble(problem)));
}

// followWebhooks shows the webhooks that fail, or have stopped because they failed.
function followWebhooks(body, signal) {
  const rows = table('Webhooks that fail', [
    { head: 'URL', class: 'lead', cell: (one) => h('a', { href: '#/webhooks' }, one.url) },
    { head: 'State', cell: (one) => badge(standingOf(one)) },
    { head: 'Failing since', cell: (one) => (one.failing_since ? time(one.failing_since) : '–') },
    { head: 'Last error', class: 'wrap', cell: (one) => one.last_error ?? '–' },
    { head: 'Behind', num: true, cell: (one) => count(one.lag) },
  ]);
  let shown = '';
  every(5000, signal, async () => {
    const { body: { webhooks } } = await get('/webhooks', { signal });
    if (JSON.stringify(webhooks) === shown) return;
    shown = JSON.stringify(webhooks);
    const failing = webhooks.filter((one) => one.failing_since !== null || ['parked', 'disabled'].includes(one.state));
    rows.rows(failing);
    if (failing.length > 0) fill(body, rows.element);
    else fill(body, note(webhooks.length === 0 ? 'There are no webhooks.' : `None of the ${count(webhooks.length)} fails.`));
  }, (problem) => fill(body, trouble(problem)));
}

function followTotals(body, read, signal) {
  const rows = table('Totals by currency', [
    { head: 'Currency', class: 'lead', cell: (total) => h('b', null, total.currency) },
    { head: 'Accounts', num: true, cell: (total) => count(total.accounts) },
    { head: 'In', money: true, cell: (total) => amount(total.deposited) },
    { head: 'Out', money: true, cell: (total) => amount(total.withdrawn) },
    { head: 'Balance', money: true, cell: (total) => h('b', null, amount(total.balance)) },
    { head: 'Adds up', cell: (total) => badge(balances(total.deposited, total.withdrawn, total.balance) ? 'ok' : 'failed') },
  ], { empty: 'No account has been opened yet.' });
  fill(body, rows.element);
  let shown = '';
  every(2000, signal, async () => {
    const { body: { totals } } = await get('/totals', { signal });
    if (JSON.stringify(totals) !== shown) rows.rows(totals);
    if (totals.length > 0) read(totals);
    shown = JSON.stringify(totals);
  }, (problem) => fill(body, trouble(problem)));
}

function followHealth(body, signal) {
  const list = h('ul', { class: 'checks' });
  fill(body, list);
  let shown = '';
  every(2000, signal, async () => {
    const state = await health(signal);
    const checks = state.checks ?? [];
    if (JSON.stringify(checks) === shown) return;
    shown = JSON.stringify(checks);
    fill(list, checks.map((check) => h('li', null, badge(standing(check)), h('span', null, h('b', null, check.name), ' ', check.detail))));
    if (checks.length === 0) fill(list, note('The server reports no components.'));
  }, (problem) => fill(body, trouble(problem)), (problem) => {
    shown = '';
    fill(list, h('li', null, badge('unavailable'), h('span', null, h('b', null, 'server'), ` ${problem.title}.`)));
  });
}

// standing is the state of a part in a word: of a projection its own, when the check names it.
function standing(check) {
  const [first] = (check.detail ?? '').split(' ');
  if (!check.ok) return 'failed';
  return first === 'paused' || first === 'halted' ? first : 'ok';
}
