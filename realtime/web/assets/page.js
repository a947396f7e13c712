// The page: shows what the server says of the run, and sends what the visitor wishes.

const $ = (id) => document.getElementById(id);
const wire = { socket: null, wait: 500, ended: false };
const state = { about: null, history: [], view: null, heard: 0 };
const VIEW_NAMES = { overlay: 'Overlay', mask: 'Mask', 'side-by-side': 'Side by side', input: 'Input' };
const DROP_NAMES = {
  newer_frame: 'newer frame', slow_output: 'output too slow', paused: 'paused',
  stride: '--stride', max_fps: '--max-fps', output_failed: 'output failed',
};

if (location.search) history.replaceState(null, '', location.pathname); // a token stays out of sight

const video = new Video($('mjpeg'), $('rtc'), showTransport);
const latencyPlot = new Plot($('latency'), [
  { key: 'p50', colour: '--one', name: 'p50' }, { key: 'p95', colour: '--two', name: 'p95' }, { key: 'p99', colour: '--three', name: 'p99' }]);
const ratePlot = new Plot($('rate'), [
  { key: 'fps', colour: '--one', name: 'out' }, { key: 'fps_in', colour: '--two', name: 'in' }]);

function make(tag, text, className) {
  const node = document.createElement(tag);
  if (text !== undefined) node.textContent = text;
  if (className) node.className = className;
  return node;
}

function send(wish) {
  if (wire.socket?.readyState === WebSocket.OPEN) wire.socket.send(JSON.stringify(wish));
}

// -- what the server says ------------------------------------------------------------

function connect() {
  const address = new URL('ws', location.href);  // beside the page: a proxy may have it in a folder
  address.protocol = location.protocol === 'https:' ? 'wss:' : 'ws:';
  const socket = wire.socket = new WebSocket(address);
  socket.onopen = () => { wire.wait = 500; };
  socket.onmessage = (event) => hear(JSON.parse(event.data));
  socket.onclose = () => {
    if (wire.ended) return;
    showStatus('offline', 'no connection');
    video.end();
    setTimeout(connect, wire.wait);
    wire.wait = Math.min(8000, wire.wait * 1.6);
  };
}

function hear(news) {
  state.heard = Date.now();
  if (news.ended) {
    wire.ended = true;
    video.end();
    showStatus('ended', 'ended');
    return;
  }
  if (news.refused) toast(news.refused);
  if (news.about) begin(news.about, news.history);
  if (news.view) showView(news.view);
  if (news.picture) showSize(news.picture);
  if (news.sample && news.sample.t !== state.history.at(-1)?.t) state.history.push(news.sample);
  if (news.numbers) showNumbers(news);
}

function begin(about, history) {
  state.about = about;
  state.history = history;
  document.title = `rt-seg · ${short(about.source)}`;
  $('source').textContent = short(about.source);
  $('source').title = about.source;
  video.canWebrtc = about.webrtc && 'RTCPeerConnection' in window;
  $('transport').replaceChildren(...(video.canWebrtc ? [['auto', 'WebRTC'], ['mjpeg', 'MJPEG']] : [['mjpeg', 'MJPEG']])
    .map(([value, text]) => Object.assign(make('option', text), { value })));
  $('views').replaceChildren(...about.views.map((name) => {
    const button = make('button', VIEW_NAMES[name] ?? name);
    button.setAttribute('role', 'radio');
    button.dataset.view = name;
    button.onclick = () => send({ view: name });
    return button;
  }));
  $('classes').replaceChildren(...about.classes.map(({ name, colour }, id) => {
    const button = make('button', undefined, 'class');
    button.style.setProperty('--colour', `rgb(${colour.join(' ')})`);
    button.append(make('i'), make('span', name), make('em', ''), make('u'));
    button.onclick = () => toggleClass(id);
    return button;
  }));
  video.restart();
}

function showTransport() {
  $('transport').value = video.canWebrtc && video.wish === 'auto' ? 'auto' : 'mjpeg';
  $('transport').dataset.shown = video.shown;
}

function showSize([width, height]) {
  const ratio = width / height * state.about.pixel_ratio;
  $('screen').style.setProperty('--ratio', ratio.toFixed(4));
  $('empty').hidden = true;
}

function showView(view) {
  state.view = view;
  for (const button of $('views').children) button.setAttribute('aria-checked', String(button.dataset.view === view.view));
  // What the visitor is just setting is not taken back by what the loop had before.
  const setting = alpha.timer || Date.now() - alpha.sent < 400 || $('alpha').matches(':active');
  if (!setting) $('alpha').value = view.alpha;
  $('alpha-value').textContent = (+$('alpha').value).toFixed(2);
  $('alpha').disabled = view.view === 'mask' || view.view === 'input';
  for (const name of ['hud', 'legend']) $(name).setAttribute('aria-pressed', String(view[name]));
  $('pause').setAttribute('aria-pressed', String(view.paused));
  $('pause').querySelector('.label').textContent = view.paused ? 'Go on' : 'Pause';
  $('step').disabled = !view.paused;
  const shown = new Set(view.classes);
  [...$('classes').children].forEach((button, id) => button.setAttribute('aria-pressed', String(shown.has(id))));
}

function showNumbers({ numbers, shares, page, sample }) {
  const streams = numbers.streams;
  const worst = ['failed', 'reconnecting', 'stalled', 'waiting', 'paused', 'live', 'ended'].find((word) => streams.some((s) => s.state === word));
  const most = streams.length > 1 && worst !== 'live' ? ` ${streams.filter((s) => s.state === worst).length} of ${streams.length}` : '';
  showStatus(worst ?? 'waiting', (worst ?? 'waiting') + most);
  showStale(streams, numbers.stale_s);
  $('streams').replaceChildren(...streams.map(streamRow));
  [...$('classes').children].forEach((button, id) => {
    const share = shares[id] ?? 0;
    button.style.setProperty('--share', share);
    button.querySelector('em').textContent = share >= 0.0005 ? `${(share * 100).toFixed(share < 0.0995 ? 1 : 0)} %` : '';
  });
  latencyPlot.show(state.history);
  ratePlot.show(state.history);
  figures($('latency-now'), latencyPlot.lines, sample, 0);
  figures($('rate-now'), ratePlot.lines, sample, 1);
  const stages = Object.entries(numbers.stages);
  const longest = Math.max(1e-6, ...stages.map(([, value]) => value));
  $('stages').replaceChildren(...(stages.length ? stages.map(([name, value]) => row(name, value / longest, value.toFixed(1))) : [make('p', 'no frame yet', 'quiet')]));
  const drops = Object.entries(numbers.dropped).sort((a, b) => b[1] - a[1]);
  const total = Math.max(1, numbers.frames_in);
  $('drops').replaceChildren(...(drops.length ? drops.map(([reason, count]) => row(DROP_NAMES[reason] ?? reason, count / total, count.toLocaleString('en'), reason)) : [make('p', 'none', 'quiet')]));
  facts(numbers, page);
}

function showStatus(name, text) {
  $('status').dataset.state = name;
  $('status').textContent = text;
}

function showStale(streams, staleAfter) {
  const lost = streams.length === 1 && ['stalled', 'reconnecting'].includes(streams[0].state) && streams[0].age_s > staleAfter;
  $('screen').classList.toggle('old', lost);
  $('stale').hidden = !lost;
  if (lost) $('stale').textContent = `no new frame for ${duration(streams[0].age_s)}`;
}

function streamRow(stream) {
  const item = make('li');
  const name = make('b', short(stream.name));
  name.title = stream.name;
  const pill = make('span', stream.state, 'pill');
  pill.dataset.state = stream.state;
  const said = [`${stream.frames.toLocaleString('en')} frames`];
  if (stream.age_s !== null) said.push(`last ${stream.age_s < 10 ? `${stream.age_s.toFixed(1)} s` : duration(stream.age_s)} ago`);
  if (stream.reconnects) said.push(`${stream.reconnects} reconnect${stream.reconnects > 1 ? 's' : ''}`);
  if (stream.stalls) said.push(`${stream.stalls} stall${stream.stalls > 1 ? 's' : ''}`);
  item.append(name, pill, make('small', said.join(' · ')));
  return item;
}

function figures(place, lines, sample, digits) {
  place.replaceChildren(...lines.map(({ key, colour, name }) => {
    const item = make('span', name);
    item.style.setProperty('--colour', `var(${colour})`);
    item.append(make('b', sample?.[key] == null ? '–' : sample[key].toFixed(digits)));
    return item;
  }));
}

function row(name, part, value, title) {
  const line = make('div', undefined, 'row');
  const label = make('span', name);
  label.title = title ?? name;
  const bar = make('i');
  bar.style.setProperty('--part', Math.min(1, part).toFixed(4));
  line.append(label, bar, make('em', value));
  return line;
}

function facts(numbers, page) {
  const { about } = state;
  const list = [
    ['network', about.network], ['network input', about.input.join(' × ')],
    ['source', `${about.size.join(' × ')}${about.fps ? ` at ${+about.fps.toFixed(2)}` : ''}`],
    ['frames out / in', `${numbers.frames_out.toLocaleString('en')} / ${numbers.frames_in.toLocaleString('en')}`],
    ['running for', duration(numbers.elapsed_s)], ['watching', `${page.watchers}`], ['rt-seg', about.version],
  ];
  $('facts').replaceChildren(...list.flatMap(([name, value]) => [make('dt', name), make('dd', value)]));
}

function short(name) {
  return name.includes('://') ? name : name.split('/').pop() || name;
}

function duration(seconds) {
  const all = Math.floor(seconds), two = (n) => String(n).padStart(2, '0');
  if (all < 60) return `${all} s`;
  const minutes = Math.floor(all / 60) % 60, hours = Math.floor(all / 3600);
  return hours ? `${hours}:${two(minutes)}:${two(all % 60)}` : `${minutes}:${two(all % 60)}`;
}

// -- what the visitor wishes -----------------------------------------------------------

function toggleClass(id) {
  const shown = new Set(state.view.classes);
  if (!shown.delete(id)) shown.add(id);
  send({ classes: [...shown] });
}

let snapping = false;
async function snapshot() {
  if (snapping) return;
  snapping = true;
  try {
    const answer = await fetch('snapshot.png');
    if (!answer.ok) throw new Error((await answer.text()).trim());
    const name = /filename="([^"]+)"/.exec(answer.headers.get('content-disposition'))?.[1] ?? 'rt-seg.png';
    const link = Object.assign(document.createElement('a'), { href: URL.createObjectURL(await answer.blob()), download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    toast(name);
  } catch (error) {
    toast(`no snapshot: ${error.message}`);
  } finally {
    snapping = false;
  }
}

let toasting = 0;
function toast(text) {
  clearTimeout(toasting);
  $('toast').textContent = text;
  $('toast').hidden = false;
  toasting = setTimeout(() => { $('toast').hidden = true; }, 2600);
}

const alpha = { sent: 0, timer: 0 }; // at most 16 a second, and the last one always
$('alpha').oninput = () => {
  const value = +$('alpha').value;
  $('alpha-value').textContent = value.toFixed(2);
  clearTimeout(alpha.timer);
  const wait = Math.max(0, alpha.sent + 60 - Date.now());
  alpha.timer = setTimeout(() => { alpha.sent = Date.now(); alpha.timer = 0; send({ alpha: value }); }, wait);
};
$('pause').onclick = () => send({ paused: !state.view?.paused });
$('step').onclick = () => send({ key: '.' });
$('snapshot').onclick = snapshot;
$('hud').onclick = () => send({ hud: !state.view?.hud });
$('legend').onclick = () => send({ legend: !state.view?.legend });
$('all').onclick = () => send({ classes: state.about.classes.map((_, id) => id) });
$('none').onclick = () => send({ classes: [] });
$('transport').onchange = (event) => video.choose(event.target.value);
$('help').onclick = () => $('keys').showModal();
$('fullscreen').onclick = () => (document.fullscreenElement ? document.exitFullscreen() : $('screen').requestFullscreen?.());
$('fullscreen').hidden = !document.fullscreenEnabled;
$('quit').onclose = () => {
  if ($('quit').returnValue === 'quit') send({ key: 'q' });
  $('quit').returnValue = '';
};
// A button that was clicked lets the keys go, so that space pauses and does not click again.
document.addEventListener('click', (event) => { if (event.detail) event.target.closest('button')?.blur(); });

const KEYS = { ' ': 'space', Tab: 'tab', h: 'h', l: 'l', '+': '+', '=': '+', '-': '-', '.': '.' };
addEventListener('keydown', (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector('dialog[open]')) return;
  // A dialog that has just closed may hold the focus until the browser's next frame.
  const focused = document.activeElement?.matches('button, select, input') && !document.activeElement.closest('dialog');
  if (focused && [' ', 'Tab', 'Escape', 'Enter', '+', '-', '.'].includes(event.key)) {
    if (event.key === 'Escape') document.activeElement.blur();
    return;
  }
  if (event.key === 's') snapshot();
  else if (event.key === 'q' || (event.key === 'Escape' && !document.fullscreenElement)) { if (!wire.ended) $('quit').showModal(); }
  else if (event.key in KEYS && (!event.shiftKey || event.key === '+')) send({ key: KEYS[event.key] });
  else return;
  event.preventDefault();
});

connect();
