"use strict";
// Gain over the cost of a picture: ways to guide as points, the best of N as the line to be beaten.
// What training took is spread over as many pictures as the slider says.
{
  const data = JSON.parse(document.getElementById("chart-data").textContent);
  const chart = document.getElementById("chart");
  const SVG = "http://www.w3.org/2000/svg", WIDTH = 760, HEIGHT = 380;
  const LEFT = 56, RIGHT = 16, TOP = 12, BOTTOM = 44, STEP = 20; // STEP: positions of a power of ten
  const powers = [0, data.pictures.length - 1].map((i) => Math.log10(data.pictures[i]));
  const count = (n) => n.toLocaleString("en", { maximumFractionDigits: 0 });
  const signed = (x, digits = 2) => (x < 0 ? "−" : "+") + Math.abs(x).toFixed(digits);
  const cost = (way, pictures) => way.tflops + way.train_tflops / pictures;

  chart.innerHTML = `<h2>Gain over cost</h2>
<p class="caption">Each point is a way to guide, its bar the interval of the difference to base. The line is
the best of 1, 2, 3, … fresh samples of base: what lies above it gains more than drawing again at its cost.</p>
<div class="tools"><label>pictures that will be drawn <input type="range" id="pictures" min="${STEP * powers[0]}" max="${STEP * powers[1]}" value="${STEP * Math.log10(data.shown)}"></label>
<output id="number" for="pictures"></output>
<label>gain in <select id="measure">${data.measures.map((name) => `<option>${name}</option>`).join("")}</select></label></div>
<div class="wide"><svg viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="Gain over TFLOPs of a picture"></svg></div>
<div class="wide"><table><thead><tr><th scope="col" class="plain">Way</th><th scope="col" class="plain number">TFLOPs a picture</th><th scope="col" class="plain number">Gain</th><th scope="col" class="plain number">Best of as many samples as cost as much</th><th scope="col" class="plain number">Its gain</th><th scope="col" class="plain number">Beyond it</th></tr></thead><tbody></tbody></table></div>`;
  const [slider, number, measure] = ["pictures", "number", "measure"].map((id) => document.getElementById(id));
  const [svg, body] = [chart.querySelector("svg"), chart.querySelector("tbody")];

  function add(name, attributes, text) {
    const element = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (text !== undefined) element.textContent = text;
    svg.append(element);
    return element;
  }

  // [samples, gain] of the best of N at a cost, linear between two rounds; null beyond the last.
  function frontier(tflops, name) {
    const points = data.frontier;
    for (let i = 0; i < points.length; i++) {
      if (Math.abs(points[i].tflops - tflops) < 1e-9 * tflops) return [points[i].samples, points[i].gain[name][0]];
      if (i && points[i].tflops > tflops && points[i - 1].tflops < tflops) {
        const share = (tflops - points[i - 1].tflops) / (points[i].tflops - points[i - 1].tflops);
        const mix = (a, b) => a + share * (b - a);
        return [mix(points[i - 1].samples, points[i].samples), mix(points[i - 1].gain[name][0], points[i].gain[name][0])];
      }
    }
    return null;
  }

  function draw() {
    const pictures = 10 ** (slider.value / STEP), name = measure.value;
    number.textContent = count(Number(pictures.toPrecision(2)));
    const ways = data.ways.map((way) => ({ ...way, at: cost(way, pictures), y: way.gain[name] }));
    // The axes hold for all positions of the slider, so that points move and axes do not.
    const costs = [...data.ways.flatMap((way) => data.pictures.map((n) => cost(way, n))), ...data.frontier.map((p) => p.tflops)];
    const gains = [0, ...[...data.ways, ...data.frontier].flatMap((way) => way.gain[name].filter((x) => x !== null))];
    const [low, high] = [Math.log10(Math.min(...costs)) - 0.08, Math.log10(Math.max(...costs)) + 0.08];
    const [least, most] = [Math.min(...gains), Math.max(...gains)], pad = 0.06 * (most - least || 1);
    const x = (tflops) => LEFT + ((Math.log10(tflops) - low) / (high - low)) * (WIDTH - LEFT - RIGHT);
    const y = (gain) => TOP + ((most + pad - gain) / (most - least + 2 * pad)) * (HEIGHT - TOP - BOTTOM);
    svg.replaceChildren();
    const ticks = high - low > 3 ? [1] : [1, 2, 5];
    for (let power = Math.floor(low); power <= high; power++) {
      for (const tflops of ticks.map((n) => n * 10 ** power)) {
        if (Math.log10(tflops) < low || Math.log10(tflops) > high) continue;
        add("line", { x1: x(tflops), x2: x(tflops), y1: TOP, y2: HEIGHT - BOTTOM, class: "grid" });
        add("text", { x: x(tflops), y: HEIGHT - BOTTOM + 16, "text-anchor": "middle" }, String(Number(tflops.toPrecision(1))));
      }
    }
    const wide = 10 ** Math.floor(Math.log10((most - least || 1) / 3));
    const tick = [1, 2, 5, 10].map((n) => n * wide).find((n) => (most - least) / n <= 6) ?? wide;
    for (let gain = Math.ceil((least - pad) / tick) * tick; gain <= most + pad; gain += tick) {
      add("line", { x1: LEFT, x2: WIDTH - RIGHT, y1: y(gain), y2: y(gain), class: Math.abs(gain) < tick / 2 ? "zero" : "grid" });
      add("text", { x: LEFT - 6, y: y(gain) + 4, "text-anchor": "end" }, Number(gain.toPrecision(6)).toString().replace("-", "−"));
    }
    add("text", { x: (LEFT + WIDTH - RIGHT) / 2, y: HEIGHT - 8, "text-anchor": "middle" }, "TFLOPs of a picture, training spread over all");
    add("text", { x: 14, y: (TOP + HEIGHT - BOTTOM) / 2, "text-anchor": "middle", transform: `rotate(-90 14 ${(TOP + HEIGHT - BOTTOM) / 2})` }, `Δ ${name}`);
    add("polyline", { points: data.frontier.map((p) => `${x(p.tflops)},${y(p.gain[name][0])}`).join(" "), class: "frontier" });
    for (const point of data.frontier) add("circle", { cx: x(point.tflops), cy: y(point.gain[name][0]), r: 3, class: "frontier" }).append(titled(`best of ${point.samples}`));
    ways.forEach((way, i) => {
      const [gain, from, to] = way.y;
      if (gain === null) return;
      if (from !== null) add("line", { x1: x(way.at), x2: x(way.at), y1: y(from), y2: y(to), class: way.trained ? "trained" : "arm" });
      const mark = way.trained
        ? add("rect", { x: x(way.at) - 5, y: y(gain) - 5, width: 10, height: 10, class: "trained" })
        : add("circle", { cx: x(way.at), cy: y(gain), r: 5.5, class: "arm" });
      mark.append(titled(`${way.name}: ${signed(gain)}`));
      add("text", { x: x(way.at) + 8, y: y(gain) - 6, class: "label" }, String(i + 1));
    });
    body.replaceChildren(...ways.map((way, i) => {
      const best = frontier(way.at, name), [gain] = way.y, row = document.createElement("tr");
      const beyond = best && gain !== null ? signed(gain - best[1]) : "–";
      const last = data.frontier.at(-1);
      const samples = best ? best[0].toFixed(1) : way.at > last.tflops ? `more than ${last.samples}` : "–";
      [`${i + 1} ${way.name}`, way.at.toPrecision(3), gain === null ? "–" : signed(gain), samples, best ? signed(best[1]) : "–", beyond].forEach((text, column) => {
        const cell = row.insertCell();
        cell.textContent = text;
        if (column) cell.className = "number";
      });
      return row;
    }));
  }

  function titled(text) {
    const title = document.createElementNS(SVG, "title");
    title.textContent = text;
    return title;
  }

  slider.addEventListener("input", draw);
  measure.addEventListener("input", draw);
  draw();
}
