// The state of a projection, as a panel that is refreshed in place, and its actions.
import { h, fill, newID, put, toast } from './dom.js';
import { send } from './api.js';
import { openForm } from './form.js';
import { count, rate, span, time } from './format.js';
import { action, allow, badge, pairs } from './parts.js';
import { lacking } from './scopes.js';

// card makes the panel. changed is called when something was done, so that it is read again at once.
export function card(id, { changed, level = 'h2' }) {
  const state = h('span', null);
  const bar = meter(`Applied by ${id}`);
  const facts = h('div');
  const alarm = h('div', { class: 'problem', hidden: true });
  const replay = replayBar(id, changed);
  const toggle = action('Pause', pause);
  const back = action('Roll back', () => rollback(id, now, changed));
  const again = action('Replay', () => startReplay(id, changed));
  const trouble = h('p', { class: 'problem', role: 'alert', hidden: true });
  const ruledOut = h('p', { class: 'meta why', id: newID('why'), hidden: true });
  const actions = h('div', { class: 'actions', hidden: true }, toggle, again, back); // until it is known which there are
  let now = null;

  async function pause() {
    const name = now?.state === 'paused' ? 'resume' : 'pause';
    trouble.hidden = true;
    try {
      await send('POST', `/projections/${id}/${name}`);
      toast(name === 'pause' ? `${id} is paused; reads go on.` : `${id} goes on.`);
      changed();
    } catch (problem) {
      put(trouble, [problem.title, problem.scope && `The key lacks the scope ${problem.scope}.`, problem.message].filter(Boolean).join(' '));
      trouble.hidden = false;
    }
  }

  const element = h('section', { class: 'panel projection', 'aria-label': `Projection ${id}`, 'data-id': id },
    h('div', { class: 'panel-head' },
      h('div', { class: 'named' }, h(level, null, level === 'h2' ? h('a', { href: `#/projections/${id}` }, id) : id), state),
      actions),
    ruledOut, trouble, alarm, bar.element, replay.element, facts);

  const shown = { state: '', facts: '' };
  const update = (p) => {
    now = p;
    const why = lacking('projections:admin');
    for (const button of [toggle, again, back, replay.cancel]) allow(button, why, ruledOut);
    bar.set(p.position, p.head, `${count(p.position)} of ${count(p.head)}${p.lag > 0 ? `, ${count(p.lag)} behind` : ''}`);
    put(toggle, p.state === 'paused' ? 'Resume' : 'Pause');
    back.hidden = p.previous_generation === null;
    actions.hidden = false;
    replay.set(p.replay);
    again.hidden = p.replay?.state === 'running';
    if (shown.state !== p.state) fill(state, badge(p.state));
    shown.state = p.state;
    const key = JSON.stringify({ ...p, replay: null, updated_at: null });
    if (key !== shown.facts) fill(facts, about(p));
    shown.facts = key;
    alarm.hidden = !p.error && p.parked === 0;
    if (!alarm.hidden) tell(alarm, id, p);
  };
  return { element, update };
}

function tell(alarm, id, p) {
  const text = p.error ? `${p.error}${p.error_position ? ` (at position ${count(p.error_position)})` : ''}. ` : '';
  const parked = p.parked > 0 ? `${count(p.parked)} ${p.parked === 1 ? 'account waits' : 'accounts wait'} at an event that could not be applied.` : '';
  if (alarm.dataset.text === text + parked) return;
  alarm.dataset.text = text + parked;
  fill(alarm, text, parked, ' ', h('a', { href: `#/projections/${id}` }, 'See the failures'));
}

function about(p) {
  return pairs([
    ['Lag', p.lag === 0 ? 'none' : `${count(p.lag)} events, ${span(p.lag_seconds)}`],
    ['Rate', `${rate(p.rate)} events a second`],
    ['Generation', p.previous_generation === null ? count(p.generation) : `${count(p.generation)} (previous: ${count(p.previous_generation)})`],
    ['Code version', count(p.version)],
    ['Applied by', p.owner ?? 'no instance'],
    ['Failed attempts in total', count(p.failures)],
  ]);
}

// meter is a bar with the text of what it shows.
function meter(label) {
  const bar = h('progress', { 'aria-label': label, max: 1, value: 0 });
  const text = h('p', { class: 'meta figure' });
  return {
    element: h('div', { class: 'meter' }, bar, text),
    set(value, most, words) {
      bar.max = Math.max(most, 1);
      bar.value = most === 0 ? 1 : value;
      put(text, words);
    },
  };
}

// replayBar shows the replay that runs, or how the last one ended.
function replayBar(id, changed) {
  const bar = meter(`Replay of ${id}`);
  const name = h('b', null);
  const cancel = action('Cancel', stop, { class: 'small' });
  const last = h('p', { class: 'meta' });
  const running = h('div', { class: 'replay', hidden: true }, h('div', { class: 'named' }, name, cancel), bar.element);
  let current = null;
  async function stop() {
    cancel.classList.add('busy'); // what is being written right now is waited for
    try {
      await send('DELETE', `/projections/${id}/replays/${current.id}`);
      toast('Cancelled. The live read model is unchanged.');
    } catch (problem) {
      toast(`${problem.title}. ${problem.message}`);
    }
    cancel.classList.remove('busy');
    changed();
  }
  return {
    element: h('div', null, running, last), cancel,
    set(replay) {
      running.hidden = replay?.state !== 'running';
      last.hidden = !replay || !running.hidden;
      if (!replay) return;
      if (running.hidden) {
        put(last, `The last ${replay.kind} ${replay.state === 'failed' ? `failed: ${replay.error}` : `was ${replay.state}`}, with ${count(replay.processed)} of ${count(replay.total)} events.`);
        return;
      }
      current = replay;
      put(name, `${replay.kind === 'rollback' ? 'Rollback' : 'Replay'} to generation ${count(replay.generation)}`);
      const left = replay.eta_seconds === null ? 'time left not known yet' : `${span(replay.eta_seconds)} left`;
      bar.set(replay.processed, replay.total, `${count(replay.processed)} of ${count(replay.total)} events, ${rate(replay.rate)} a second, ${left}`);
    },
  };
}

function startReplay(id, changed) {
  openForm({
    title: `Replay ${id}`, label: 'Start the replay',
    about: `Builds a new generation of ${id} from the first event of the log, beside the live one, which keeps serving reads. `
      + 'It becomes live when it has caught up; cancelling the replay before that changes nothing.',
    submit: () => send('POST', `/projections/${id}/replay`),
    done() { toast(`The replay of ${id} has started.`); changed(); },
  });
}

function rollback(id, now, changed) {
  openForm({
    title: `Roll back ${id}`, label: 'Roll back', danger: true,
    about: `Generation ${count(now.previous_generation)} is brought up to date and then replaces generation ${count(now.generation)}. `
      + 'A second rollback undoes this one.',
    submit: () => send('POST', `/projections/${id}/rollback`),
    done() { toast(`${id} was rolled back.`); changed(); },
  });
}

// past is a table's columns for replays and rollbacks that were.
export const past = [
  { head: 'Kind', class: 'lead', cell: (one) => one.kind },
  { head: 'State', cell: (one) => badge(one.state) },
  { head: 'Generation', num: true, cell: (one) => count(one.generation) },
  { head: 'Events', num: true, cell: (one) => `${count(one.processed)} of ${count(one.total)}` },
  { head: 'Rate', num: true, cell: (one) => `${rate(one.rate)}/s` },
  { head: 'Began', cell: (one) => time(one.started_at) },
  { head: 'Ended', cell: (one) => (one.finished_at ? time(one.finished_at) : '–') },
  { head: 'Why it failed', cell: (one) => one.error ?? '–' },
];
