// The script of a page: it draws the charts, sorts the table, and adds controls to what
// is there without it. It asks for nothing, and evaluates no text: what users have
// written becomes text nodes and attributes.
"use strict";
(() => {
	const NS = "http://www.w3.org/2000/svg";
	// What a reader has chosen, by the place on the page: it outlives new data.
	const state = {};
	let data = {experiments: []};
	let redraw = [];

	// ---- elements

	function put(e, attributes, children) {
		for (const [k, v] of Object.entries(attributes || {})) {
			if (k.startsWith("on")) e.addEventListener(k.slice(2), v);
			else if (v === true) e.setAttribute(k, "");
			else if (v !== false && v != null) e.setAttribute(k, v);
		}
		for (const c of children) if (c != null) e.append(c);
		return e;
	}
	const el = (name, attributes, ...children) => put(document.createElement(name), attributes, children);
	const svg = (name, attributes, ...children) => put(document.createElementNS(NS, name), attributes, children);
	const toggle = (text, on, change, ...before) => {
		const b = el("button", {type: "button", "aria-pressed": String(on)}, ...before, text);
		b.addEventListener("click", () => {
			on = !on;
			b.setAttribute("aria-pressed", String(on));
			change(on);
		});
		return b;
	};
	const say = (text) => { document.getElementById("said").textContent = text; };

	// ---- colors

	const darkness = matchMedia("(prefers-color-scheme: dark)");
	let printing = false;
	function dark() {
		const chosen = document.documentElement.dataset.theme;
		return !printing && (chosen ? chosen === "dark" : darkness.matches);
	}
	const channels = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
	function luminance(c) {
		const [r, g, b] = c.map((v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
		return 0.2126 * r + 0.7152 * g + 0.0722 * b;
	}
	// visible is a color that has a contrast of 3:1 to the background, or a little more.
	function visible(hex) {
		if (!dark()) return hex;
		const back = luminance([0x14, 0x17, 0x1b]);
		let c = channels(hex);
		while ((luminance(c) + 0.05) / (back + 0.05) < 4.5) c = c.map((v) => v + (255 - v) * 0.12 + 1);
		return `rgb(${c.map((v) => Math.min(255, Math.round(v))).join(" ")})`;
	}

	// ---- numbers

	const collator = new Intl.Collator("en", {numeric: true});
	function short(v) {
		if (v == null) return "–";
		const a = Math.abs(v);
		if (a !== 0 && (a < 1e-3 || a >= 1e6)) return v.toExponential(1).replace(/\.0e/, "e").replace("e+", "e");
		return String(Number(v.toPrecision(4)));
	}
	function round(low, high, want, whole) {
		let step = 10 ** Math.floor(Math.log10((high - low) / Math.max(1, want)));
		const rest = (high - low) / Math.max(1, want) / step;
		step *= rest > 5 ? 10 : rest > 2 ? 5 : rest > 1 ? 2 : 1;
		if (whole) step = Math.max(1, step);
		const out = [];
		for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k++) out.push({at: k * step, label: short(k * step)});
		return out;
	}
	function powers(low, high) {
		const out = [];
		for (let e = Math.floor(Math.log10(low)); e <= Math.log10(high); e++)
			for (const m of [1, 2, 5]) if (m * 10 ** e >= low * 0.999 && m * 10 ** e <= high * 1.001) out.push({at: m * 10 ** e, label: short(m * 10 ** e)});
		return out;
	}
	class Extent {
		low = Infinity;
		high = -Infinity;
		add(...values) {
			for (const v of values) if (v != null && isFinite(v)) {
				if (v < this.low) this.low = v;
				if (v > this.high) this.high = v;
			}
			return this;
		}
		get empty() { return this.low > this.high; }
		// padded has room at both ends.
		padded(part, unit) {
			let {low, high} = this.empty ? {low: 0, high: 1} : this;
			let room = part * (high - low);
			if (room === 0) room = Math.abs(high) * 0.05 || 0.5;
			const out = new Extent().add(low - room, high + room);
			if (unit) { out.low = Math.max(out.low, -0.01); out.high = Math.min(out.high, 1.01); }
			return out;
		}
	}
	function scale(extent, from, to, log) {
		const f = log ? Math.log : (v) => v;
		const a = f(extent.low), b = f(extent.high);
		const at = (v) => from + (f(v) - a) / (b - a || 1) * (to - from);
		at.extent = extent;
		return at;
	}

	// ---- marks and lines

	const dashes = ["", "6 4", "2 3", "9 3 2 3"];
	function glyph(shape, x, y, r, attributes, title) {
		const named = title ? [svg("title", {}, title)] : [];
		const path = (d) => svg("path", {d, ...attributes}, ...named);
		switch ((shape || 0) % 4) {
			case 1: return path(`M${x - r} ${y - r}h${2 * r}v${2 * r}h${-2 * r}z`);
			case 2: return path(`M${x} ${y - 1.2 * r}l${1.2 * r} ${2.1 * r}h${-2.4 * r}z`);
			case 3: return path(`M${x} ${y - 1.3 * r}l${1.3 * r} ${1.3 * r}l${-1.3 * r} ${1.3 * r}l${-1.3 * r} ${-1.3 * r}z`);
		}
		return svg("circle", {cx: x, cy: y, r, ...attributes}, ...named);
	}
	function joined(points, x, y) {
		let d = "", pen = "M";
		for (const [px, py] of points) {
			if (px == null || py == null) { pen = "M"; continue; }
			d += pen + x(px).toFixed(1) + " " + y(py).toFixed(1);
			pen = "L";
		}
		return d;
	}
	function swatch(look, line) {
		const s = svg("svg", {width: 22, height: 12, "aria-hidden": "true"});
		if (line) s.append(svg("path", {d: "M1 6H21", stroke: visible(look.color), "stroke-width": 2.5, "stroke-dasharray": dashes[(look.dash || 0) % 4]}));
		if (!line || look.mark) s.append(glyph(look.mark, 11, 6, 4, {fill: visible(look.color)}));
		return s;
	}

	// legend lists what has a name, as toggles.
	function legend(chart, entries, key, change) {
		const off = state[key] ||= {};
		const box = el("div", {class: "legend", role: "group", "aria-label": chart.key || "Shown in the chart"});
		if (chart.key) box.append(el("span", {class: "heading"}, chart.key));
		const seen = new Set();
		let unnamed = false; // next to something without a name, one name says what it is of
		for (const e of entries) {
			if (!e.name) unnamed = true;
			if (!e.name || seen.has(e.name)) continue;
			seen.add(e.name);
			box.append(toggle(e.name, !off[e.name], (on) => { off[e.name] = !on; change(); }, swatch(e, e.line)));
		}
		return seen.size > 1 || seen.size > 0 && unnamed || chart.key ? box : null;
	}

	// ticks that do not touch
	function apart(ticks, at, room) {
		const out = [];
		let last = -Infinity;
		for (const t of ticks) {
			const half = t.label.length * 3.4 + 4, x = at(t.at);
			if (x - half < last || !isFinite(x)) { out.push({at: t.at, label: ""}); continue; }
			out.push(t);
			last = x + half;
		}
		return out;
	}
	const cut = (text, most) => text.length <= most ? text : text.slice(0, Math.ceil(most / 2) - 1) + "…" + text.slice(-Math.floor(most / 2));

	// frame draws axes, and returns the canvas and its scales.
	function frame(width, height, chart, xAxis, xe, ye, log, label) {
		const yTicks = log ? powers(ye.low, ye.high) : chart.y && chart.y.ticks || round(ye.low, ye.high, height / 50);
		const left = 14 + Math.max(...yTicks.map((t) => t.label.length), 2) * 6.8 + (chart.y && chart.y.title ? 16 : 0), bottom = 40, top = 8, right = 12;
		const x = scale(xe, left, width - right, xAxis.log), y = scale(ye, height - bottom, top, log);
		const s = svg("svg", {viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": label});
		for (const t of yTicks) {
			const at = y(t.at);
			s.append(svg("line", {class: "grid", x1: left, x2: width - right, y1: at, y2: at}), svg("text", {class: "soft", x: left - 6, y: at + 4, "text-anchor": "end"}, t.label));
		}
		let xTicks = xAxis.ticks;
		if (!xTicks || !xTicks.length) xTicks = xAxis.log ? powers(xe.low, xe.high) : round(xe.low, xe.high, (width - left) / 80, xAxis.whole);
		for (const t of apart(xTicks, x)) {
			const at = x(t.at);
			if (at < left - 1 || at > width - right + 1) continue;
			s.append(svg("line", {class: "axis", x1: at, x2: at, y1: height - bottom, y2: height - bottom + 4}));
			const half = t.label.length * 3.4;
			if (t.label) s.append(svg("text", {class: "soft", x: Math.min(Math.max(at, left), width - half - 2), y: height - bottom + 17, "text-anchor": "middle"}, cut(t.label, 24)));
		}
		s.append(svg("line", {class: "axis", x1: left, x2: width - right, y1: height - bottom, y2: height - bottom}));
		if (xAxis.title) s.append(svg("text", {x: (left + width - right) / 2, y: height - 6, "text-anchor": "middle"}, cut(xAxis.title, Math.floor((width - left) / 6.5))));
		if (chart.y && chart.y.title) s.append(svg("text", {transform: `translate(12 ${(height - bottom + top) / 2}) rotate(-90)`, "text-anchor": "middle"}, cut(chart.y.title, Math.floor((height - bottom) / 6.2))));
		return {s, x, y, left, right, bottom, top};
	}

	function grid(box, n) {
		const width = Math.max(240, box.clientWidth || 600);
		const columns = Math.max(1, Math.min(n, Math.floor(width / 300), n === 4 ? 2 : 4));
		const panels = el("div", {class: "panels" + (n === 1 ? " single" : "")});
		panels.style.gridTemplateColumns = `repeat(${columns}, minmax(0, 1fr))`;
		const each = Math.min(n === 1 ? 900 : 640, Math.floor((width - (columns - 1) * 16) / columns));
		if (n === 1) panels.style.maxWidth = "900px";
		return {panels, width: each, height: Math.round(Math.min(400, Math.max(230, each * 0.56)))};
	}

	// lines draws lines, bars, levels and marks in panels.
	function lines(box, chart, key, title) {
		const off = state[key] ||= {};
		const shown = (e) => !e.name || !off[e.name];
		const readout = el("p", {class: "readout", "aria-hidden": "true"});
		const paint = () => {
			const g = grid(box, chart.panels.length);
			const ys = {};
			const all = new Extent();
			for (const [i, p] of chart.panels.entries()) {
				const e = ys[p.scale || i] ||= new Extent();
				for (const l of p.series || []) if (shown(l) || l.pale) for (const pt of l.points) { e.add(...pt.slice(1)); if (!p.x) all.add(pt[0]); }
				for (const l of p.levels || []) if (shown(l)) e.add(l.y, l.low, l.high);
				for (const m of p.marks || []) if (shown(m)) e.add(m.y, ...(m.bars || []));
			}
			for (const t of chart.x && chart.x.ticks || []) all.add(t.at);
			for (const [i, p] of chart.panels.entries()) {
				const axis = p.x || chart.x;
				let xe = all;
				if (p.x) {
					xe = new Extent().add(...(p.range || []));
					for (const l of p.series || []) for (const pt of l.points) xe.add(pt[0]);
					for (const m of p.marks || []) xe.add(m.x, ...(m.wide || []));
				}
				if (axis.log && xe.low > 0) { const f = (xe.high / xe.low) ** 0.04 || 1.1; xe = new Extent().add(xe.low / f, xe.high * f); } else if (!chart.tight) xe = xe.padded(0.04);
				let ye = ys[p.scale || i];
				const log = chart.logY && ye.low > 0;
				ye = log ? new Extent().add(ye.low / 1.1, ye.high * 1.1) : ye.padded(0.06, chart.y && chart.y.unit);
				const label = [title, p.title, `${chart.y && chart.y.title || "value"} over ${axis.title || "x"}`].filter(Boolean).join(", ");
				const f = frame(g.width, g.height, chart, axis, xe, ye, log, label);
				for (const l of p.levels || []) if (shown(l)) {
					const c = visible(l.color);
					if (l.high > l.low) f.s.append(svg("rect", {x: f.left, width: g.width - f.right - f.left, y: f.y(l.high), height: Math.max(0, f.y(l.low) - f.y(l.high)), fill: c, opacity: 0.12}));
					f.s.append(svg("line", {x1: f.left, x2: g.width - f.right, y1: f.y(l.y), y2: f.y(l.y), stroke: c, "stroke-width": 1.5, "stroke-dasharray": dashes[(l.dash || 1) % 4]}, svg("title", {}, `${l.name || ""} ${short(l.y)}`)));
				}
				for (const l of p.series || []) {
					if (!shown(l)) continue;
					const c = l.pale && !l.name ? "var(--rule)" : visible(l.color);
					if (l.band) {
						const there = l.points.filter((pt) => pt[2] != null);
						const d = joined(there.map((pt) => [pt[0], pt[3]]), f.x, f.y) + joined(there.map((pt) => [pt[0], pt[2]]).reverse(), f.x, f.y).replace("M", "L") + "z";
						if (there.length > 1) f.s.append(svg("path", {d, fill: c, opacity: 0.15}));
					}
					f.s.append(svg("path", {d: joined(l.points, f.x, f.y), fill: "none", stroke: c, "stroke-width": l.pale ? 1 : 2, "stroke-opacity": l.thin || l.pale ? 0.55 : 1, "stroke-dasharray": dashes[(l.dash || 0) % 4], "stroke-linejoin": "round"}));
					if (!l.marked) {
						// A line of one point is a mark.
						const there = l.points.filter((pt) => pt[1] != null);
						if (there.length === 1) f.s.append(svg("circle", {cx: f.x(there[0][0]), cy: f.y(there[0][1]), r: 2.5, fill: c}));
						continue;
					}
					for (const [px, py, low, high, ...seeds] of l.points) {
						const at = f.x(px);
						if (high > low) f.s.append(svg("path", {d: `M${at} ${f.y(low)}V${f.y(high)}M${at - 3} ${f.y(low)}h6M${at - 3} ${f.y(high)}h6`, stroke: c, "stroke-width": 1.5}));
						for (const v of seeds) f.s.append(svg("circle", {cx: at, cy: f.y(v), r: 2.6, fill: "none", stroke: c}));
						f.s.append(glyph(l.mark, at, f.y(py), 4, {fill: c}, `${l.name ? l.name + ": " : ""}${short(py)} at ${short(px)}`));
					}
				}
				for (const m of p.marks || []) {
					if (!shown(m)) continue;
					const c = visible(m.color), at = f.x(m.x);
					if (m.bars) f.s.append(svg("path", {d: `M${at} ${f.y(m.bars[0])}V${f.y(m.bars[1])}`, stroke: c, "stroke-width": 1.5}));
					if (m.wide) f.s.append(svg("path", {d: `M${f.x(m.wide[0])} ${f.y(m.y)}H${f.x(m.wide[1])}`, stroke: c, "stroke-width": 1.5}));
					const look = m.ring ? {fill: "none", stroke: c, "stroke-width": 1.4} : {fill: c, "fill-opacity": 0.9};
					f.s.append(glyph(m.mark, at, f.y(m.y), m.ring ? 3 : 4.5, look, [m.of || m.name, `${short(m.y)} at ${short(m.x)}`].filter(Boolean).join(": ")));
				}
				const cursor = svg("line", {class: "cursor", y1: f.top, y2: g.height - f.bottom, visibility: "hidden"});
				f.s.append(cursor);
				f.s.addEventListener("pointermove", (event) => {
					const at = (event.clientX - f.s.getBoundingClientRect().left) / f.s.getBoundingClientRect().width * g.width;
					let best = null;
					for (const l of p.series || []) if (shown(l) && l.name) for (const pt of l.points) if (pt[1] != null) {
						const away = Math.abs(f.x(pt[0]) - at);
						if (!best || away < best.away) best = {away, x: pt[0]};
					}
					if (!best) return;
					cursor.setAttribute("x1", f.x(best.x)); cursor.setAttribute("x2", f.x(best.x)); cursor.setAttribute("visibility", "visible");
					const label = (axis.ticks || []).find((t) => t.at === best.x);
					const parts = [];
					for (const l of p.series) if (shown(l) && l.name) {
						const near = l.points.reduce((a, b) => b[1] != null && (!a || Math.abs(b[0] - best.x) < Math.abs(a[0] - best.x)) ? b : a, null);
						if (near && parts.length < 8) parts.push(`${l.name} ${short(near[1])}`);
					}
					readout.textContent = `${axis.title || "x"} ${label ? label.label : short(best.x)}: ${parts.join(", ")}`;
				});
				f.s.addEventListener("pointerleave", () => cursor.setAttribute("visibility", "hidden"));
				g.panels.append(el("div", {class: "panel"}, p.title ? el("p", {class: "title"}, p.title) : null, f.s));
			}
			const old = box.querySelector(".panels");
			if (old) old.replaceWith(g.panels); else box.prepend(g.panels);
		};
		const entries = chart.panels.flatMap((p) => [...(p.series || []).filter((l) => !l.pale || l.name).map((l) => ({...l, line: true})), ...(p.levels || []).map((l) => ({...l, line: true, dash: l.dash || 1})), ...(p.marks || []).map((m) => ({...m, line: false}))]);
		box.replaceChildren();
		const key_ = legend(chart, entries, key, paint);
		if (key_) box.append(key_);
		paint();
		if (key_) box.prepend(key_);
		if (chart.panels.some((p) => (p.series || []).some((l) => l.name))) box.append(readout);
		return paint;
	}

	// rows draws marks with intervals in rows.
	function rows(box, chart, key, title) {
		const off = state[key] ||= {};
		const shown = (m) => !m.name || !off[m.name];
		const paint = () => {
			const every = chart.sections.flatMap((s) => s.rows);
			const longest = Math.max(...every.map((r) => r.name.length), 4);
			const room = Math.max(240, box.clientWidth || 600);
			const names = Math.min(longest * 7 + 16, room * 0.4);
			const columns = Math.max(1, Math.min(chart.panels.length, Math.floor(room / (names + 200))));
			const width = Math.min(700, Math.floor((room - (columns - 1) * 16) / columns));
			const panels = el("div", {class: "panels" + (chart.panels.length === 1 ? " single" : "")});
			panels.style.gridTemplateColumns = `repeat(${columns}, minmax(0, 1fr))`;
			panels.style.maxWidth = `${columns * width + (columns - 1) * 16}px`; // a drawing is not enlarged
			const xs = {};
			for (const r of every) r.dots.forEach((dots, k) => {
				const p = chart.panels[k], e = xs[p.scale || k] ||= new Extent();
				if (chart.zero) e.add(0);
				for (const m of dots || []) e.add(m.x, ...(m.bars || []));
			});
			chart.panels.forEach((p, k) => {
				const most = Math.max(1, ...every.map((r) => (r.dots[k] || []).filter((m) => !m.ring && shown(m)).length));
				const pitch = Math.max(24, most * 9 + 8);
				const heads = chart.sections.filter((s) => s.title).length;
				const height = every.length * pitch + heads * 22 + 48;
				const e = (xs[p.scale || k] || new Extent()).padded(0.06, chart.x.unit);
				const x = scale(e, names, width - 14, chart.x.log);
				const s = svg("svg", {viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": [title, p.title].filter(Boolean).join(", ")});
				for (const t of apart(chart.x.log ? powers(e.low, e.high) : chart.x.ticks || round(e.low, e.high, (width - names) / 70), x)) {
					s.append(svg("line", {class: "grid", x1: x(t.at), x2: x(t.at), y1: 4, y2: height - 40}), svg("text", {class: "soft", x: x(t.at), y: height - 24, "text-anchor": "middle"}, t.label));
				}
				if (chart.zero) s.append(svg("line", {class: "axis", x1: x(0), x2: x(0), y1: 4, y2: height - 40}));
				s.append(svg("text", {x: (names + width - 14) / 2, y: height - 6, "text-anchor": "middle"}, cut(chart.x.title, Math.floor((width - names) / 6.2))));
				let y = 4;
				for (const section of chart.sections) {
					if (section.title) { s.append(svg("text", {x: 2, y: y + 15, "font-weight": 600}, cut(section.title, Math.floor(width / 7)))); y += 22; }
					for (const r of section.rows) {
						s.append(svg("text", {x: 2, y: y + pitch / 2 + 4}, cut(r.name, Math.floor(names / 6.8)), svg("title", {}, r.name)));
						let place = 0;
						const dots = r.dots[k] || [];
						const n = dots.filter((m) => !m.ring && shown(m)).length;
						for (const m of dots) {
							if (!shown(m)) continue;
							if (!m.ring) place++;
							const at = y + pitch / 2 + (place - (n + 1) / 2) * 9, c = visible(m.color);
							if (m.bars) s.append(svg("line", {x1: x(m.bars[0]), x2: x(m.bars[1]), y1: at, y2: at, stroke: c, "stroke-width": 1.6}));
							const look = m.ring ? {fill: "none", stroke: c} : {fill: c};
							s.append(glyph(m.mark, x(m.x), at, m.ring ? 2.6 : 4, look, `${r.name}${m.name ? ", " + m.name : ""}: ${short(m.x)}`));
						}
						y += pitch;
					}
				}
				panels.append(el("div", {class: "panel"}, p.title ? el("p", {class: "title"}, p.title) : null, s));
			});
			const old = box.querySelector(".panels");
			if (old) old.replaceWith(panels); else box.append(panels);
		};
		box.replaceChildren();
		const entries = chart.sections.flatMap((s) => s.rows.flatMap((r) => r.dots.flatMap((d) => d || [])));
		const key_ = legend(chart, entries, key, paint);
		if (key_) box.append(key_);
		paint();
		return paint;
	}

	// parallel draws a line for each course over axes side by side.
	function parallel(box, chart, key, title) {
		const off = state[key] ||= {};
		const paint = () => {
			const room = Math.max(240, box.clientWidth || 600), need = chart.axes.length * 74 + 40;
			const width = Math.max(Math.min(room, 1100), Math.min(need, 1400)), height = 340, top = 14, bottom = 70;
			const s = svg("svg", {viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": title});
			const place = (i) => 46 + i * (width - 92) / Math.max(1, chart.axes.length - 1);
			const ys = chart.axes.map((a) => scale(new Extent().add(a.low, a.high), height - bottom, top, a.log));
			for (const c of chart.courses) {
				if (c.name && off[c.name]) continue;
				const points = c.at.map((v, i) => v == null ? (i === c.at.length - 1 ? null : [place(i), height - bottom + 12]) : [place(i), ys[i](v)]).filter(Boolean);
				s.append(svg("path", {d: "M" + points.map((p) => p.map((v) => v.toFixed(1)).join(" ")).join("L"), fill: "none", stroke: visible(c.color), "stroke-width": c.bold ? 2.6 : 1.1, "stroke-opacity": c.pale ? 0.35 : c.bold ? 1 : 0.7}));
			}
			chart.axes.forEach((a, i) => {
				const x = place(i);
				s.append(svg("line", {class: "axis", x1: x, x2: x, y1: top, y2: height - bottom}));
				const ticks = a.ticks && a.ticks.length ? a.ticks : [{at: a.low, label: short(a.low)}, {at: a.high, label: short(a.high)}];
				for (const t of ticks) s.append(svg("text", {class: "soft", x: x + 5, y: ys[i](t.at) + 4, stroke: "var(--back)", "stroke-width": 3, "paint-order": "stroke"}, cut(t.label, 10)));
				const words = a.title.split(" "), most = Math.max(10, Math.floor(width / chart.axes.length / 7));
				let line = "", n = 0;
				const write = (text) => s.append(svg("text", {x, y: height - bottom + 30 + 14 * n++, "text-anchor": i === 0 ? "start" : i === chart.axes.length - 1 ? "end" : "middle", dx: i === 0 ? -40 : i === chart.axes.length - 1 ? 40 : 0}, cut(text, most)));
				for (const w of words) { if (line && (line + " " + w).length > most) { if (n < 2) write(line); line = w; } else line = line ? line + " " + w : w; }
				if (n < 3) write(line);
			});
			const scroller = el("div", {class: "panels scroll", tabindex: 0, role: "region", "aria-label": title}, el("div", {class: "panel"}, s));
			s.style.width = `${width}px`;
			const old = box.querySelector(".panels");
			if (old) old.replaceWith(scroller); else box.append(scroller);
		};
		box.replaceChildren();
		const key_ = legend(chart, chart.courses.map((c) => ({...c, line: true})), key, paint);
		if (key_) box.append(key_);
		paint();
		return paint;
	}

	// listed is the data of a chart as a table, made when it is opened.
	function listed(chart, title) {
		const most = 400;
		const d = el("details", {}, el("summary", {}, "Data of this chart"));
		d.addEventListener("toggle", () => {
			if (!d.open || d.children.length > 1) return;
			const lines = [];
			const add = (...v) => { if (lines.length < most) lines.push(v); };
			for (const p of chart.panels || []) {
				for (const l of p.series || []) for (const pt of l.points) add(p.title, l.name, short(pt[0]), short(pt[1]), short(pt[2]), short(pt[3]));
				for (const l of p.levels || []) add(p.title, l.name, "all", short(l.y), short(l.low), short(l.high));
				for (const m of p.marks || []) add(p.title, m.of || m.name, short(m.x), short(m.y), ...(m.bars || [null, null]).map(short));
			}
			for (const s of chart.sections || []) for (const r of s.rows) r.dots.forEach((dots, k) => {
				for (const m of dots || []) if (!m.ring) add(chart.panels[k].title, r.name, m.name || s.title, short(m.x), ...(m.bars || [null, null]).map(short));
			});
			for (const c of chart.courses || []) add(c.name, chart.axes.map((a, i) => `${a.title} ${short(c.at[i])}`).join("; "), "", "", "", "");
			const xs = new Set((chart.panels || []).map((p) => (p.x || chart.x || {}).title)), of = (a, other) => a && a.title || other;
			const x = xs.size === 1 ? [...xs][0] || "x" : "x", y = of(chart.y, "y");
			const head = chart.courses ? ["kind", "values", "", "", "", ""] : chart.sections ? ["panel", "row", "of", of(chart.x, "value"), "low", "high"] : ["panel", "of", x, y, "low", "high"];
			const text = chart.courses ? 6 : chart.sections ? 3 : 2; // columns before the numbers
			const used = head.map((_, i) => lines.some((l) => l[i] && l[i] !== "–"));
			const pick = (l, make) => l.map((v, i) => used[i] ? make(v, i < text ? null : "number") : null);
			d.append(el("div", {class: "scroll", tabindex: 0, role: "region", "aria-label": `Data: ${title}`}, el("table", {class: "plain"},
				el("thead", {}, el("tr", {}, ...pick(head, (h, c) => el("th", {scope: "col", class: c}, h)))),
				el("tbody", {}, ...lines.map((l) => el("tr", {}, ...pick(l, (v, c) => el("td", {class: c}, v || ""))))))));
			if (lines.length === most) d.append(el("p", {}, `The first ${most} lines.`));
		});
		return d;
	}

	function draw(box, chart, key, title) {
		const kinds = {lines, rows, parallel};
		const inner = el("div");
		box.replaceChildren(inner);
		const paint = kinds[chart.kind](inner, chart, key, title);
		if (!chart.unlisted) box.append(listed(chart, title));
		return paint;
	}

	// ---- the table

	function table(article, i, t) {
		const node = article.querySelector("[data-table]"), controls = article.querySelector('[data-controls="table"]');
		if (!node || !t.rows.length) return;
		const s = state[`table-${i}`] ||= {metric: t.metrics[0].name, off: {}, intervals: false, sort: -1, up: false};
		const body = node.tBodies[0], head = node.tHead.rows[0], caption = node.caption;
		const lines = [...body.rows];
		const fixed = 4;
		const metric = () => Math.max(0, t.metrics.findIndex((m) => m.name === s.metric));
		function values(column) {
			return t.rows.map((r, k) => {
				if (column === 0) return r.name;
				if (column < fixed) { const n = parseFloat(lines[k].cells[column].textContent.replaceAll(",", "")); return isNaN(n) ? null : n; }
				return r.scores[metric()][column - fixed].v;
			});
		}
		function order() {
			let list = t.rows.map((_, k) => k);
			if (s.sort >= 0) {
				const v = values(s.sort);
				list.sort((a, b) => v[a] == null || v[b] == null ? (v[a] == null) - (v[b] == null) : (s.up ? 1 : -1) * (typeof v[a] === "string" ? collator.compare(v[a], v[b]) : v[a] - v[b]) || a - b);
			}
			body.append(...list.map((k) => lines[k]));
			[...head.cells].forEach((th, c) => th.setAttribute("aria-sort", c !== s.sort ? "none" : s.up ? "ascending" : "descending"));
		}
		function fill() {
			const m = metric(), meta = t.metrics[m];
			caption.replaceChildren(`${meta.label}, mean${s.intervals ? " and 95 % interval" : " ± sample standard deviation"} over seeds${meta.less ? "; less is better" : ""}.${t.rows.length > 1 ? " Bold: the best mean of a column, which may be no more than chance." : ""}`);
			t.domains.forEach((d, k) => {
				const all = t.rows.map((r) => r.scores[m][k].v).filter((v) => v != null);
				const best = meta.less ? Math.min(...all) : Math.max(...all);
				t.rows.forEach((r, row) => {
					const cell = lines[row].cells[fixed + k], score = r.scores[m][k];
					cell.textContent = s.intervals && score.i ? score.i : score.t;
					cell.classList.toggle("best", all.length > 1 && score.v === best);
					cell.hidden = !!s.off[d];
				});
				head.cells[fixed + k].hidden = !!s.off[d];
			});
			order();
		}
		[...head.cells].forEach((th, c) => {
			const text = th.textContent;
			th.replaceChildren(el("button", {type: "button", onclick: () => {
				// Scores begin with the best, then the worst, then the order of the file.
				const first = c === 0 ? true : c >= fixed ? !!t.metrics[metric()].less : false;
				if (s.sort !== c) { s.sort = c; s.up = first; } else if (s.up === first) s.up = !first; else s.sort = -1;
				order();
				say(s.sort < 0 ? "In the order of the file" : `Sorted by ${text}, ${s.up ? "ascending" : "descending"}`);
			}}, text));
		});
		if (t.metrics.length > 1) {
			const select = el("select", {id: `metric-${i}`, onchange: () => { s.metric = select.value; fill(); say(`The table shows ${t.metrics[metric()].label}`); }},
				...t.metrics.map((m) => el("option", {value: m.name}, m.label)));
			select.value = t.metrics[metric()].name;
			controls.append(el("label", {}, "metric", select));
		}
		if (t.rows.some((r) => r.scores[0].some((x) => x.i))) controls.append(toggle("95 % intervals", s.intervals, (on) => { s.intervals = on; fill(); }));
		if (t.domains.length > 1) {
			controls.append(el("fieldset", {}, el("legend", {}, "domains"), ...t.domains.map((d) => toggle(d, !s.off[d], (on) => { s.off[d] = !on; fill(); }))));
		}
		fill();
	}

	// ---- learning curves

	function curves(article, i, c) {
		const box = article.querySelector("[data-curves]"), controls = article.querySelector('[data-controls="curves"]');
		if (!box || !c) return;
		const s = state[`curves-${i}`] ||= {val: false, log: false, seeds: true, on: Object.fromEntries(c.cells.slice(0, c.shown).map((name) => [name, true]))};
		const mean = (runs, xs, ys) => {
			let last = 0, longest = 0;
			for (const r of runs) { const x = r[xs]; if (x.length) { last = Math.max(last, x[x.length - 1]); longest = Math.max(longest, x.length); } }
			const bins = new Map(), width = Math.max(1, last / Math.min(120, longest));
			for (const r of runs) r[xs].forEach((x, k) => {
				if (r[ys][k] == null) return;
				const b = Math.floor((x - 1) / width), v = bins.get(b) || [0, 0, 0];
				v[0] += x; v[1] += r[ys][k]; v[2]++;
				bins.set(b, v);
			});
			return [...bins].sort((a, b) => a[0] - b[0]).map(([, v]) => [v[0] / v[2], v[1] / v[2]]);
		};
		const inner = el("div");
		box.replaceChildren(inner);
		const paint = () => {
			const xs = s.val ? "at" : "x", ys = s.val ? "val" : "y", series = [];
			c.cells.forEach((name, k) => {
				if (!s.on[name]) return;
				const runs = c.runs.filter((r) => r.cell === k), look = {color: c.colors[k], dash: Math.floor(k / 6) % 4};
				if (s.seeds) for (const r of runs) series.push({color: look.color, thin: true, pale: true, name: `${name}, ${r.name}`, points: r[xs].map((x, n) => [x, r[ys][n]])});
				if (!s.seeds || runs.length > 1) series.push({...look, name, points: mean(runs, xs, ys)});
			});
			const chart = {kind: "lines", tight: true, unlisted: true, x: {title: "step", whole: true}, y: {title: s.val ? `validation ${c.metric}` : "training loss"}, logY: s.log, panels: [{series}]};
			if (!series.length) { inner.replaceChildren(el("p", {}, "Choose a cell.")); return; }
			lines(inner, chart, `curves-off-${i}`, "Learning curves");
			const l = inner.querySelector(".legend");
			if (l) l.remove();
		};
		const select = el("select", {id: `curve-${i}`, onchange: () => { s.val = select.value === "val"; paint(); }}, el("option", {value: "loss"}, "training loss"), el("option", {value: "val"}, `validation ${c.metric}`));
		select.value = s.val ? "val" : "loss";
		const cells = el("fieldset", {"data-cells": true});
		const fill = () => cells.replaceChildren(el("legend", {}, "cells"), ...c.cells.map((name, k) => toggle(name, !!s.on[name], (on) => { s.on[name] = on; paint(); }, swatch({color: c.colors[k], dash: Math.floor(k / 6) % 4}, true))));
		fill();
		const all = (on) => { c.cells.forEach((name, k) => { s.on[name] = on && k < 60; }); fill(); paint(); };
		controls.append(el("label", {}, "show", select), toggle("each run", s.seeds, (on) => { s.seeds = on; paint(); }), toggle("log scale", s.log, (on) => { s.log = on; paint(); }));
		if (c.cells.length > 1) controls.append(el("button", {type: "button", onclick: () => all(true)}, c.cells.length > 60 ? "first 60 cells" : "all cells"), el("button", {type: "button", onclick: () => all(false)}, "no cells"), cells);
		paint();
		redraw.push({box: inner, paint, colors: fill});
	}

	// ---- samples

	function samples(article, i) {
		const section = article.querySelector("[data-samples]");
		if (!section) return;
		const s = state[`samples-${i}`] ||= {at: 0, errors: false, off: {}};
		const layers = [];
		const cells = [];
		for (const row of section.querySelectorAll(".sample")) {
			const truth = row.querySelectorAll("figure > img")[1];
			for (const f of row.querySelectorAll(".prediction")) {
				const name = f.querySelector("figcaption").textContent, box = f.querySelector(".layers"), errors = box.querySelector(".errors");
				if (!cells.includes(name)) cells.push(name);
				errors.classList.add("over");
				const over = el("img", {class: "over truth", src: truth.src, alt: "", width: truth.width, height: truth.height}), edge = el("span", {class: "edge"});
				errors.before(over);
				box.append(edge);
				layers.push({f, name, over, edge, errors});
			}
		}
		const paint = () => {
			for (const l of layers) {
				l.over.style.clipPath = `inset(0 ${100 - s.at}% 0 0)`;
				l.edge.style.left = `calc(${s.at}% - 1px)`;
				l.edge.hidden = s.at === 0 || s.at === 100;
				l.errors.hidden = !s.errors;
				l.f.hidden = !!s.off[l.name];
			}
		};
		const value = el("output", {}), range = el("input", {type: "range", min: 0, max: 100, step: 1, value: s.at, id: `slider-${i}`});
		const moved = () => {
			s.at = Number(range.value);
			value.textContent = `${s.at} % truth`;
			range.setAttribute("aria-valuetext", `${s.at} percent of each prediction covered by the truth`);
			paint();
		};
		range.addEventListener("input", moved);
		const controls = section.querySelector('[data-controls="samples"]');
		controls.append(el("label", {}, "prediction", range, "truth"), value, toggle("errors", s.errors, (on) => { s.errors = on; paint(); }));
		if (cells.length > 2) controls.append(el("fieldset", {}, el("legend", {}, "cells"), ...cells.map((name) => toggle(name, !s.off[name], (on) => { s.off[name] = !on; paint(); }))));
		moved();
	}

	// ---- the page

	const themes = ["system", "dark", "light"];
	function tools() {
		const box = document.querySelector("[data-tools]");
		if (!document.getElementById("said")) document.body.append(el("p", {id: "said", class: "hidden", role: "status"}));
		if (!box) return;
		const b = el("button", {type: "button", "data-theme-button": true, onclick: () => {
			state.theme = themes[(themes.indexOf(state.theme || "system") + 1) % themes.length];
			if (state.theme === "system") delete document.documentElement.dataset.theme; else document.documentElement.dataset.theme = state.theme;
			b.textContent = `colors: ${state.theme}`;
			again(true);
		}}, `colors: ${state.theme || "system"}`);
		box.append(b);
	}
	function again(colors) {
		for (const r of redraw) {
			if (colors && r.all) r.all();
			else r.paint();
			if (colors && r.colors) r.colors();
		}
	}

	// enhance adds to what is there.
	function enhance() {
		redraw = [];
		tools();
		for (const article of document.querySelectorAll("article[data-experiment]")) {
			const i = Number(article.dataset.experiment), e = data.experiments[i];
			if (!e) continue;
			table(article, i, e.table);
			curves(article, i, e.curves);
			samples(article, i);
			for (const box of article.querySelectorAll("[data-chart]")) {
				const chart = e.charts[box.dataset.chart];
				if (!chart) continue;
				const title = box.closest("figure").querySelector("h4").textContent;
				const r = {box, all: () => { r.paint = draw(box, chart, box.dataset.chart, title); }};
				r.all();
				redraw.push(r);
			}
		}
	}
	let wide = innerWidth, waiting = 0;
	addEventListener("resize", () => {
		if (innerWidth === wide) return;
		wide = innerWidth;
		cancelAnimationFrame(waiting);
		waiting = requestAnimationFrame(() => again(false));
	});
	darkness.addEventListener("change", () => again(true));
	addEventListener("beforeprint", () => { printing = true; again(true); });
	addEventListener("afterprint", () => { printing = false; again(true); });

	// replace shows a newer page in place of this one, and keeps what a reader has chosen.
	function replace(body, fresh) {
		const focus = document.activeElement && document.activeElement.id, y = scrollY;
		const open = new Set([...document.querySelectorAll("details[open] > summary")].map((s) => s.textContent));
		const parsed = new DOMParser().parseFromString(body, "text/html");
		document.querySelector("main").replaceWith(document.adoptNode(parsed.querySelector("main")));
		const box = document.querySelector("[data-tools]");
		if (box) box.replaceChildren();
		data = fresh;
		enhance();
		for (const s of document.querySelectorAll("details > summary")) if (open.has(s.textContent)) s.parentElement.open = true;
		if (focus && document.getElementById(focus)) document.getElementById(focus).focus({preventScroll: true});
		scrollTo({top: y, behavior: "instant"});
	}
	globalThis.loralab = {replace, draw, el, svg, say};

	const inline = document.getElementById("data");
	if (inline) data = JSON.parse(inline.textContent);
	enhance();
})();
