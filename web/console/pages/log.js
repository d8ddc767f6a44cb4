// The log: its live end, and any event in full.
import { h, fill, put } from '../dom.js';
import { checkpoint, get, parse, raw, unarchived } from '../api.js';
import { TYPES, describe } from '../events.js';
import { count, indent, time } from '../format.js';
import { accountLink } from '../owners.js';
import { badge, filters, load, note, pairs, panel, table, trouble } from '../parts.js';
import { Tail } from '../tail.js';

const MOST = 300; // rows on the page
const WINDOW = 1000; // positions that are looked at in one go, backwards

// subject is the account of an event; the one of an erasure is a person.
const subject = (event) => (event.type === 'SubjectErased' ? '–' : accountLink(event.subject, event.position));

export function show({ root, parts: [position], query, signal }) {
  return position ? one(root, Number(position), signal) : all(root, query, signal);
}

function all(root, query, signal) {
  const search = filters('/log', [
    { name: 'type', label: 'Type', options: [['', 'Any'], ...TYPES.map((type) => [type, type])] },
    { name: 'subject', label: 'Account', type: 'account', width: 'grow' },
  ], query);
  const rows = table('Events, newest first', [
    { head: 'Position', cell: (event) => h('a', { href: `#/log/${event.position}` }, count(event.position)) },
    { head: 'Type', class: 'lead', cell: (event) => event.type },
    { head: 'Account', class: 'name', cell: (event) => subject(event) },
    { head: 'What', cell: (event) => describe(event) },
    { head: 'Recorded', cell: (event) => time(event.time) },
  ], { empty: 'No events yet. New events appear here.', key: (event) => event.position });
  const state = h('span', { role: 'status' }, badge('connecting'));
  const toggle = h('button', { type: 'button' }, 'Pause');
  const list = panel('Events', { wide: true });
  const older = h('div', { class: 'turn' });
  fill(root,
    h('div', { class: 'title' }, h('div', { class: 'named' }, h('h1', null, 'Log'), state), h('div', { class: 'actions' }, toggle)),
    search.element, list.element, older);

  let follow = null;
  const begin = (asked) => {
    follow?.end();
    follow = following({ asked, rows, list, older, state, toggle, signal });
  };
  toggle.addEventListener('click', () => follow.toggle());
  signal.addEventListener('abort', () => follow.end());
  begin(query);
  return { update(asked) { search.set(asked); begin(asked); } };
}

// following shows the events of one choice of filters, from the time it is chosen.
function following({ asked, rows, list, older, state, toggle, signal }) {
  const wanted = { type: asked.get('type'), subject: asked.get('subject') };
  const ended = new AbortController();
  signal.addEventListener('abort', () => ended.abort(), { signal: ended.signal });
  let shown = null; // becomes the rows once the past is read
  let early = []; // what came before that
  const add = (messages) => {
    if (ended.signal.aborted) return;
    if (shown === null) {
      early = [...early, ...messages].slice(-MOST);
      return;
    }
    const fresh = messages.slice(-MOST).map(({ text }) => parse(text)).reverse();
    if (fresh.length === 0) return;
    if (shown.length === 0) rows.rows(fresh);
    else rows.body.prepend(...fresh.map(rows.row));
    shown = [...fresh, ...shown].slice(0, MOST);
    while (rows.body.children.length > MOST) rows.body.lastChild.remove();
  };
  let paused = false;
  const tail = new Tail(wanted, {
    take: add,
    state(now, position) {
      if (ended.signal.aborted) return;
      if (now instanceof Error) {
        fill(state, badge('failed'));
        toggle.hidden = true;
        fill(list.body, trouble(now));
        return;
      }
      fill(state, badge(now));
      if (shown === null && now === 'live') back(position);
    },
  });
  // back reads what came before the stream began, window by window until there is something to show.
  const back = (before) => load(list.body, ended.signal, async () => {
    let upTo = before;
    let found = [];
    let archived = 0; // the position of the first event that is not in the archive, once it is reached
    for (let tries = 0; upTo > 0 && found.length < 50 && tries < 10; tries += 1) {
      const after = Math.max(0, upTo - (wanted.type || wanted.subject ? WINDOW : 50));
      const { events, first } = await unarchived({ ...wanted, after, limit: upTo - after }, ended.signal);
      found = [...events.filter((event) => Number(event.position) <= upTo), ...found];
      archived = first;
      upTo = first ? 0 : after;
    }
    shown = [...(shown ?? []), ...found.reverse()].slice(0, MOST);
    rows.rows(shown);
    add(early.splice(0));
    fill(older, upTo > 0 && shown.length < MOST && h('button', { type: 'button', on: { click: () => back(upTo) } }, 'Show older events'),
      upTo > 0 && h('span', { class: 'meta' }, `Back to position ${count(upTo + 1)}.`),
      archived > 0 && h('span', { class: 'meta' }, `The events before position ${count(archived)} are in the archive.`));
    return rows.element;
  });
  fill(list.body, note('Reading the log …'));
  put(toggle, 'Pause');
  toggle.hidden = false;
  tail.begin();
  return {
    toggle() {
      paused = !paused;
      put(toggle, paused ? 'Continue' : 'Pause');
      if (paused) tail.pause();
      else tail.begin();
    },
    end() {
      tail.end();
      ended.abort();
    },
  };
}

function one(root, position, signal) {
  const body = h('div', { class: 'stack' });
  fill(root, h('p', { class: 'crumb' }, h('a', { href: '#/log' }, 'Log')), h('div', { class: 'title' }, h('h1', null, `Event ${count(position)}`),
    h('nav', { class: 'actions', 'aria-label': 'Other events' },
      position > 1 && h('a', { class: 'button', href: `#/log/${position - 1}` }, 'Previous'), h('a', { class: 'button', href: `#/log/${position + 1}` }, 'Next'))), body);
  load(body, signal, async () => {
    const text = await raw(position, signal);
    if (text === null) return note('The log has not reached this position yet. ', h('a', { href: '#/log' }, 'Follow it'));
    const event = parse(text);
    const facts = panel(event.type, { about: h('span', null, describe(event)) });
    fill(facts.body, pairs([
      ['Account', [subject(event), ' ', h('code', null, event.subject)]],
      ['Version of the account', count(event.version)],
      ['Recorded', h('time', { datetime: event.time }, event.time)],
      ['Event id', h('code', null, event.id)],
      event.correlationid && ['Correlation id', h('code', null, event.correlationid)],
      event.causationid && ['Causation id', h('code', null, event.causationid)],
      event.traceparent && ['Trace', h('code', null, event.traceparent)],
    ]));
    const whole = panel('In full', { about: 'The CloudEvent as the server sends it.' });
    fill(whole.body, h('pre', { tabindex: '0', role: 'region', 'aria-label': 'The event as JSON' }, indent(text)));
    const proof = panel('Proof', { about: 'That the event is in the log that the server has signed.' });
    fill(proof.body, h('button', { type: 'button', on: { click: () => load(proof.body, signal, () => proofOf(position, signal)) } }, 'Show the proof'));
    return [facts.element, proof.element, whole.element];
  });
}

// proofOf shows how an event is proved to be in the tree of the latest checkpoint.
async function proofOf(position, signal) {
  let found;
  try {
    ({ body: found } = await get('/log/proofs/inclusion', { query: { position }, signal }));
  } catch (problem) {
    if (problem.code !== 'no-checkpoint' && problem.code !== 'not-signed-yet') throw problem;
    return note(problem.message);
  }
  const signed = await checkpoint(signal);
  return [
    pairs([
      ['Events in the tree', count(found.size)],
      ['Hash of the event', h('code', null, found.leaf_hash)],
      ['Hashes of the proof', count(found.hashes.length)],
    ]),
    h('p', { class: 'meta' }, 'The checkpoint, for server audit or any program that reads signed notes:'),
    h('pre', { tabindex: '0', role: 'region', 'aria-label': 'The checkpoint' }, signed),
  ];
}
