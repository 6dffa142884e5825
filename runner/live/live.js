// The script of a page that is live: it shows what goes on, and renews the page as runs
// end. See page.js.
"use strict";
(() => {
	const {el, draw, replace, say} = loralab;
	const live = document.querySelector("[data-live]"), connection = document.querySelector("[data-connection]");
	// The token leaves the address, so that nobody copies it with it.
	const address = new URL(location.href);
	let token = address.searchParams.get("token") || sessionStorage.getItem("token");
	if (address.searchParams.has("token")) {
		sessionStorage.setItem("token", token);
		address.searchParams.delete("token");
		history.replaceState(null, "", address);
	}
	let version = 0, renewing = false;
	const curves = el("div", {class: "chart"}), table = el("div"), about = el("div"), log = el("pre", {class: "log scroll", tabindex: 0, role: "region", "aria-label": "Log"}), load = el("p", {class: "caption"}), searches = el("ul"), waiting = el("div");
	const details = (text, open, ...children) => el("details", {open}, el("summary", {}, text), ...children);
	const queue = details("Runs that wait", false, waiting);
	live.append(about, searches, table, curves, load, details("Log", true, log), queue);

	function act(what, text) {
		return el("button", {type: "button", id: `act-${what}`, onclick: async (event) => {
			event.target.disabled = true;
			try {
				const r = await fetch(`actions/${what}`, {method: "POST", headers: {"X-Loralab-Token": token}});
				connection.textContent = (await r.text()).trim();
			} catch {
				connection.textContent = "the server does not answer";
			}
		}}, text);
	}
	const number = (v, digits) => v == null ? "" : Number(v).toFixed(digits);
	const duration = (s) => !s ? "" : s < 120 ? `${s} s` : s < 7200 ? `${Math.round(s / 60)} min` : `${(s / 3600).toFixed(1)} h`;
	const once = {};
	// put replaces children where they are others, so that a button keeps its focus.
	function put(box, key, value, make) {
		const text = JSON.stringify(value);
		if (once[key] === text) return;
		once[key] = text;
		const focus = box.contains(document.activeElement) && document.activeElement.id;
		box.replaceChildren(...make());
		if (focus && document.getElementById(focus)) document.getElementById(focus).focus({preventScroll: true});
	}

	function listing(title, rows, attributes) {
		const body = rows.map((r) => el("tr", {},
			el("th", {scope: "row"}, r.name),
			el("td", {class: "run-state" + (r.reason ? " bad" : "")}, r.state),
			el("td", {class: "number"}, r.steps ? el("progress", {max: r.steps, value: r.step, "aria-label": `steps of ${r.name}`}) : null, r.steps ? ` ${r.step}/${r.steps}` : r.step ? String(r.step) : ""),
			el("td", {class: "number"}, number(r.loss, 4)), el("td", {class: "number", title: r.metric}, number(r.value, 4)), el("td", {class: "number"}, number(r.speed, 1)), el("td", {class: "number"}, duration(r.left)),
			el("td", {}, r.reason || "", r.state === "failed" && token ? act(`resume?run=${encodeURIComponent(r.name)}`, "retry") : null)));
		return el("div", {class: "scroll", tabindex: 0, role: "region", "aria-label": title}, el("table", {class: "plain", ...attributes}, el("caption", {}, title),
			el("thead", {}, el("tr", {}, ...["run", "state", "steps", "loss", "validation", "images/s", "time left", "note"].map((h, i) => el("th", {scope: "col", class: i > 1 && i < 7 ? "number" : null}, h)))), el("tbody", {}, ...body)));
	}

	function show(s) {
		put(about, "about", [s.holders, s.experiments, s.error], () => {
			const out = [];
			if (s.error) out.push(el("p", {class: "bad"}, s.error));
			if (!s.holders.length) out.push(el("p", {"data-holders": true}, "Nobody works on this project now. ", token ? act("resume", "resume") : null));
			for (const h of s.holders) out.push(el("p", {"data-holders": true}, `Process ${h.pid} on ${h.host} works since ${new Date(h.since).toLocaleString()}: `, el("code", {}, h.command), " ", token ? act(`stop?pid=${h.pid}`, "stop") : null));
			const list = el("ul");
			for (const e of s.experiments) list.append(el("li", {}, el("strong", {}, e.name), ": ", Object.entries(e.counts).map(([state, n]) => `${n} ${state}`).join(", ")));
			out.push(list);
			return out;
		});
		put(searches, "searches", s.searches, () => (s.searches || []).map((line) => el("li", {}, line)));
		const rows = s.runs.map(({curve, ...r}) => r), idle = (r) => r.state === "paused" || r.state === "queued" || r.state === "not started";
		// Those that wait come below the log: there may be hundreds.
		const now = rows.filter((r) => !idle(r)), later = rows.filter(idle), more = s.more ? [el("p", {}, `${s.more} more runs are not done.`)] : [];
		put(table, "table", now, () => now.length ? [listing("Runs that train, failed or stopped", now, {"data-runs": true})] : []);
		put(waiting, "waiting", [later, s.more], () => [...(later.length ? [listing("Runs that wait", later, {"data-waiting": true})] : []), ...more]);
		queue.hidden = !later.length && !s.more;
		const going = s.runs.filter((r) => r.curve && r.curve.length > 1);
		put(curves, "curves", going.map((r) => [r.name, r.curve.at(-1)]), () => {
			if (!going.length) return [];
			const colors = ["#0072b2", "#d55e00", "#008f68", "#b5609a", "#9a6a00", "#000000"];
			const box = el("div");
			curves.replaceChildren(box);
			draw(box, {kind: "lines", tight: true, unlisted: true, x: {title: "step", whole: true}, y: {title: "training loss"}, panels: [{title: going.length === 1 ? going[0].name : "", series: going.map((r, i) => ({name: r.name, color: colors[i % 6], dash: Math.floor(i / 6) % 4, points: r.curve}))}]}, "live", "Training loss of the runs that train");
			return [box];
		});
		put(load, "load", s.load, () => [`Processors ${s.load.cpu} % busy, memory ${s.load.memory} % of ${(s.load.total / 2 ** 30).toFixed(1)} GiB in use` + (s.load.gpus || []).map((g) => `; ${g.name} ${g.busy} % busy, memory ${g.memory} %`).join("")]);
		const end = log.scrollHeight - log.scrollTop - log.clientHeight < 20; // who reads further up stays there
		put(log, "log", s.lines, () => [(s.lines || []).join("\n") || "Nothing was said yet."]);
		if (end) log.scrollTop = log.scrollHeight;
		if (s.version > version && !renewing) renew(s.version);
	}
	async function renew(to) {
		renewing = true;
		try {
			const [body, data] = await Promise.all([fetch("body").then((r) => r.text()), fetch("data").then((r) => r.json())]);
			replace(body, data);
			version = to;
			document.body.dataset.version = to;
		} catch {
			// The next state tries again.
		}
		renewing = false;
	}

	let source = null;
	function connect() {
		source = new EventSource("events");
		source.onopen = () => { connection.textContent = "live"; version = 0; };
		source.onmessage = (event) => show(JSON.parse(event.data));
		source.onerror = () => {
			connection.textContent = "not connected, trying again";
			// A browser gives up where a server does not answer as one of events.
			if (source.readyState === EventSource.CLOSED) setTimeout(connect, 1000);
		};
	}
	connect();
	addEventListener("pagehide", () => source.close());
})();
