// Lines over time on a canvas, drawn anew for each sample; a pointer shows the values below it.

const SHOWN = 240;

function niceTop(value) {
  const power = 10 ** Math.floor(Math.log10(Math.max(value, 1e-6)));
  return [1, 2, 3, 4, 5, 8, 10].map((step) => step * power).find((top) => top >= value);
}

class Plot {
  constructor(canvas, lines) {
    this.canvas = canvas;
    this.lines = lines; // [{key, colour: CSS variable, name}]
    this.samples = [];
    this.pointer = null;
    new ResizeObserver(() => this.draw()).observe(canvas);
    canvas.addEventListener('pointermove', (event) => { this.pointer = event.offsetX; this.draw(); });
    canvas.addEventListener('pointerleave', () => { this.pointer = null; this.draw(); });
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => this.draw());
  }

  show(samples) {
    this.samples = samples.slice(-SHOWN);
    this.draw();
  }

  draw() {
    const { canvas, samples } = this;
    const width = canvas.clientWidth, height = canvas.clientHeight;
    if (!width) return;
    const scale = devicePixelRatio || 1;
    canvas.width = width * scale;
    canvas.height = height * scale;
    const pen = canvas.getContext('2d');
    pen.scale(scale, scale);
    const style = getComputedStyle(canvas);
    const soft = style.getPropertyValue('--soft'), line = style.getPropertyValue('--line');
    const values = samples.flatMap((s) => this.lines.map((l) => s[l.key] ?? 0));
    const peak = niceTop(Math.max(1, ...values) * 1.05);
    const ticks = [0, 0.5, 1].map((part) => [part, (+(peak * part).toPrecision(3)).toLocaleString('en')]);
    pen.font = `11px ${style.fontFamily}`;
    const left = 10 + Math.max(...ticks.map(([, text]) => pen.measureText(text).width));
    const right = width - 4, top = 7, bottom = height - 16;
    const x = (i) => right - (samples.length - 1 - i) * (right - left) / (SHOWN - 1);
    const y = (value) => bottom - value / peak * (bottom - top);
    pen.fillStyle = soft;
    pen.strokeStyle = line;
    pen.lineWidth = 1;
    pen.textAlign = 'right';
    pen.textBaseline = 'middle';
    for (const [part, text] of ticks) {
      const level = Math.round(y(peak * part)) + 0.5;
      pen.beginPath();
      pen.moveTo(left, level);
      pen.lineTo(right, level);
      pen.stroke();
      pen.fillText(text, left - 6, level);
    }
    pen.textBaseline = 'bottom';
    pen.fillText('now', right, height);
    pen.textAlign = 'left';
    pen.fillText('−2 min', left, height);
    pen.lineJoin = 'round';
    for (const { key, colour } of [...this.lines].reverse()) {
      pen.strokeStyle = style.getPropertyValue(colour);
      pen.lineWidth = 1.6;
      pen.beginPath();
      let down = false;
      samples.forEach((sample, i) => {
        if (sample[key] == null) { down = false; return; }
        if (down) pen.lineTo(x(i), y(sample[key])); else pen.moveTo(x(i), y(sample[key]));
        down = true;
      });
      pen.stroke();
    }
    if (this.pointer !== null) this.readOut(pen, style, x, top, bottom, left, right);
  }

  readOut(pen, style, x, top, bottom, left, right) {
    const { samples } = this;
    const step = (right - left) / (SHOWN - 1);
    const index = samples.length - 1 - Math.round((right - this.pointer) / step);
    const sample = samples[Math.max(0, Math.min(samples.length - 1, index))];
    if (!sample) return;
    const at = x(samples.indexOf(sample));
    pen.strokeStyle = style.getPropertyValue('--soft');
    pen.lineWidth = 1;
    pen.beginPath();
    pen.moveTo(at, top);
    pen.lineTo(at, bottom);
    pen.stroke();
    const text = this.lines.map((l) => `${l.name} ${sample[l.key] == null ? '–' : sample[l.key].toFixed(1)}`).join('   ');
    const wide = pen.measureText(text).width + 12;
    const from = Math.min(Math.max(left, at - wide / 2), right - wide);
    pen.fillStyle = style.getPropertyValue('--text');
    pen.beginPath();
    pen.roundRect(from, top, wide, 19, 5);
    pen.fill();
    pen.fillStyle = style.getPropertyValue('--card');
    pen.textBaseline = 'middle';
    pen.fillText(text, from + 6, top + 10);
  }
}
