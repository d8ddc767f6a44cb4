// Time travel: an account as of a moment, or as of a position of the log.
import { h, fill } from '../dom.js';
import { get } from '../api.js';
import { chart } from '../chart.js';
import { UUID, readOrNull } from '../find.js';
import { amount, count, figure, moment, named, time } from '../format.js';
import { badge, latest, note, pairs, panel } from '../parts.js';
import { accountIn, clear, fields, place } from '../form.js';
import { readMoment, writeMoment } from '../moments.js';
import { movements, points } from './account.js';

const STEPS = 1000; // of the slider

export function show({ root, query, signal }) {
  const made = fields([
    { name: 'account', label: 'Account', type: 'account', required: true },
    { name: 'at', label: 'Moment', type: 'moment', plain: true },
    { name: 'position', label: 'or position', inputmode: 'numeric', plain: true },
  ]);
  const top = h('div', { class: 'problem', role: 'alert', tabindex: '-1', hidden: true });
  const form = h('form', { class: 'filters', novalidate: true, on: { submit(event) { event.preventDefault(); apply(); } } },
    made.elements, h('button', { type: 'submit', class: 'primary' }, 'Show'));
  const then = panel('At that moment', { wide: true });
  const past = panel('Choose on the line', { wide: true, about: 'The balance over time. The dashed line is the moment shown above.' });
  fill(root, h('h1', null, 'Time travel'),
    h('p', { class: 'lede' }, 'The log keeps everything, so you can see an account as of any moment.'), form, top, then.element, past.element);
  past.element.hidden = true;
  const line = timeline(past.body, signal, (milliseconds) => {
    made.inputs.get('at').value = writeMoment(milliseconds);
    made.inputs.get('position').value = '';
    apply();
  });

  async function apply() {
    const asked = new URLSearchParams();
    await made.pickers.get('account').settled();
    for (const [name, input] of made.inputs) {
      try {
        const value = name === 'account' ? accountIn({ name }, made.pickers) : input.value.trim();
        if (value) asked.set(name, name === 'at' ? readMoment(value, name) : value);
      } catch (problem) {
        place(problem, made, top);
        return;
      }
    }
    if (asked.has('position')) asked.delete('at');
    const hash = `/time-travel?${asked}`;
    if (location.hash === `#${hash}`) read(asked);
    else location.hash = hash;
  }

  const next = latest(signal);
  async function read(asked) {
    const now = next();
    const id = asked.get('account');
    made.pickers.get('account').set(id ?? '');
    if (asked.get('at') && document.activeElement !== made.inputs.get('at')) made.inputs.get('at').value = writeMoment(asked.get('at'));
    made.inputs.get('position').value = asked.get('position') ?? '';
    if (!id) {
      fill(then.body, note('Choose an account and a moment.'));
      return;
    }
    clear(made, top);
    try {
      const [was, is] = await Promise.all([
        get(`/accounts/${id}/balance`, { signal: now, query: { at: asked.get('at'), at_position: asked.get('position') } }),
        get(`/accounts/${id}`, { signal: now }),
      ]);
      if (now.aborted) return;
      fill(then.body, side(was.body, is.body, asked));
      past.element.hidden = false;
      await line.show(is.body, asked.get('at') ?? was.body.updated_at);
    } catch (problem) {
      const account = problem.status === 404 && UUID.test(id) ? await readOrNull(`/accounts/${id}`, now).catch(() => null) : null;
      if (now.aborted) return;
      refuse(account ? { title: 'It was not open yet', message: `The account of ${named(account.owner)} was not open yet.` } : problem);
    }
  }

  // refuse shows a problem beside the field that its parameter is.
  function refuse(problem) {
    const names = { account_id: 'account', at: 'at', at_position: 'position' };
    const errors = (problem.errors ?? []).map((one) => ({ ...one, pointer: `/${names[one.parameter] ?? one.parameter}` }));
    place(Object.assign(problem, { errors }), made, top);
    fill(then.body, note('There is nothing to show.'));
  }

  read(query);
  return { update: read };
}

function side(was, is, asked) {
  const when = asked.get('position') ? `position ${count(asked.get('position'))}` : asked.get('at') ? moment(asked.get('at')) : 'now';
  const column = (name, of, id) => h('div', { class: 'moment' },
    h('h3', null, name), h('p', null, h('b', { class: 'value', id }, amount(of.balance)), ` ${of.currency} `, badge(of.status)),
    pairs([
      ['Held', figure(of.held)], ['Available', figure(of.available)], ['Version', count(of.version)],
      ['Last event', h('a', { href: `#/log/${of.position}` }, `position ${count(of.position)}`)], ['Recorded', time(of.updated_at)],
      ...Object.entries(of.metadata),
    ]));
  return [h('p', null, h('a', { href: `#/accounts/${is.account_id}` }, named(is.owner))),
    h('div', { class: 'moments' }, column(`As of ${when}`, was, 'then'), column('Now', is))];
}

// timeline shows the balance over time with a slider, which chooses a moment when it is released.
function timeline(body, signal, chosen) {
  const line = chart({ label: 'Balance over time', names: ['balance'], format: String, step: true, height: 180 });
  const slider = h('input', { type: 'range', min: 0, max: STEPS, step: 1, 'aria-label': 'Moment', class: 'slider' });
  const ends = h('p', { class: 'ends meta' });
  let range = null;
  const at = () => range.from + ((range.to - range.from) * Number(slider.value)) / STEPS;
  slider.addEventListener('input', () => {
    slider.setAttribute('aria-valuetext', moment(at()));
    line.draw(range.series, { from: range.from, to: range.to, mark: at() });
  });
  slider.addEventListener('change', () => chosen(Math.floor(at())));
  fill(body, line.element, slider, ends);
  return {
    async show(account, rfc3339) {
      if (range?.version !== account.version || range.id !== account.account_id) {
        const found = await movements(account.account_id, null, signal);
        range = {
          id: account.account_id, version: account.version, series: [points(account, found)],
          from: Date.parse(account.opened_at), to: Date.now() - 1000,
        };
      }
      const mark = Date.parse(rfc3339);
      range.to = Math.max(range.to, mark);
      slider.value = Math.round(((mark - range.from) / Math.max(1, range.to - range.from)) * STEPS);
      slider.setAttribute('aria-valuetext', moment(rfc3339));
      fill(ends, h('span', null, moment(range.from)), h('span', null, moment(range.to)));
      line.draw(range.series, { from: range.from, to: range.to, mark });
    },
  };
}
