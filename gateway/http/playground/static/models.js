// The models that the gateway knows, live: the choice at the top, and the panel with slots, queues and loading.

import { Failure, events, request } from "./api.js";
import { announce, byId, el, setText } from "./dom.js";
import { size } from "./receipt.js";

const STATES = { ready: "ready", loading: "loading", unloaded: "not loaded", restarting: "restarting", failed: "failed" };
const PHASES = { download: "Downloading", verify: "Verifying", convert: "Converting", load: "Loading", warm: "Warming up" };
const PAUSES_MS = [500, 1000, 2000, 5000]; // before connecting again

/** Follows the gateway's models; `changed()` is called when they are others, or in other states. */
export class Models {
  constructor(settings, changed) {
    this.settings = settings;
    this.changed = changed;
    this.list = [];
    this.items = new Map(); // name -> how it is shown
    this.loads = new Map(); // name -> what its loading has come to
    document.addEventListener("visibilitychange", () => this.follow());
  }

  /** The chosen model; `undefined` if the gateway has none. */
  get chosen() {
    return this.list.find((model) => model.id === byId("model").value);
  }

  /** Follows the gateway while somebody looks, until there is no key that it takes. */
  async follow() {
    if (document.hidden) this.following?.abort();
    if (document.hidden || this.following) return;
    const following = (this.following = new AbortController());
    for (let failures = 0; !following.signal.aborted; ) {
      try {
        for await (const event of events("v1/models", { signal: following.signal })) {
          failures = 0;
          this.#take(event.data);
        }
      } catch (error) {
        if (following.signal.aborted) break;
        this.#lose(error);
        if (error.status === 401 || error.status === 403) break;
        await pause(PAUSES_MS[Math.min(failures++, PAUSES_MS.length - 1)], following.signal);
      }
    }
    this.following = null;
    if (following.signal.aborted && !document.hidden) this.follow();
  }

  /** Follows it anew, with another key. */
  restart() {
    if (this.following) this.following.abort();
    else this.follow();
  }

  /** Whether a request for the chosen model, backend and precision needs no loading first. */
  get isReady() {
    const [backend, precision] = [byId("backend").value, byId("precision").value];
    return Boolean(this.chosen?.diplex.deployments.some((it) => it.state === "ready"
      && (!backend || it.backend === backend) && (!precision || it.precision === precision)));
  }

  /** Loads a model; `told(text)` is called with the progress. Throws what it fails with. */
  async load(wanted, { told = () => {}, signal } = {}) {
    const name = wanted.model;
    try {
      for await (const event of events("diplex/v1/models/load", { body: wanted, signal })) {
        if (event.progress) {
          this.loads.set(name, event.progress);
          told(progressText(event.progress));
        }
        this.#show();
      }
      announce(`${name} is loaded`);
    } finally {
      this.loads.delete(name);
      this.#show();
    }
  }

  #take(list) {
    const before = JSON.stringify(this.list);
    this.list = list;
    byId("connection").className = "muted";
    setText(byId("connection"), summary(list));
    if (JSON.stringify(list) === before) return;
    this.#fillChoice();
    this.#show();
    this.changed();
  }

  #lose(error) {
    byId("connection").className = "fault";
    setText(byId("connection"), error instanceof Failure ? error.message : "The gateway can't be reached.");
    this.changed();
  }

  #fillChoice() {
    const select = byId("model");
    const names = this.list.map((model) => model.id);
    const before = select.value || this.settings.wantedModel;
    for (const option of [...select.options]) if (!names.includes(option.value)) option.remove();
    for (const [index, model] of this.list.entries()) {
      if (select.options[index]?.value !== model.id) select.add(new Option("", model.id), select.options[index] ?? null);
      const text = model.diplex.deployments.some((it) => it.state === "ready") ? model.id : `${model.id} (not loaded)`;
      if (select.options[index].text !== text) select.options[index].text = text;
    }
    while (select.options.length > names.length) select.options[names.length].remove();
    const standard = this.list.find((model) => model.diplex.default)
      ?? this.list.find((model) => model.diplex.deployments.some((it) => it.state === "ready"));
    select.value = names.includes(before) ? before : standard?.id ?? names[0] ?? "";
  }

  #show() {
    const list = byId("model-list");
    const names = new Set(this.list.map((model) => model.id));
    for (const [name, item] of this.items) {
      if (names.has(name)) continue;
      item.root.remove();
      this.items.delete(name);
    }
    const focused = document.activeElement;
    for (const [index, model] of inUseFirst(this.list).entries()) {
      if (!this.items.has(model.id)) this.items.set(model.id, new Item(model.id, this));
      const item = this.items.get(model.id);
      if (list.children[index] !== item.root) list.insertBefore(item.root, list.children[index] ?? null);
      item.show(model, this.loads.get(model.id));
    }
    if (list.contains(focused)) focused.focus({ preventScroll: true }); // what is moved loses it
  }
}

/** One model in the panel. What stays the same is never written again, so that nothing moves or loses its focus. */
class Item {
  constructor(name, models) {
    this.models = models;
    this.name = name;
    this.facts = el("p.muted");
    this.rows = el("ul.deployments");
    this.shown = new Map(); // deployment -> its row
    this.progress = el("progress", { "aria-label": `Loading ${name}` });
    this.progressText = el("span.muted");
    this.loading = el("p.loading", { hidden: true }, this.progress, this.progressText);
    this.fault = el("p.fault", { role: "alert" });
    this.root = el("li.model", {}, el("h3", {}, name), this.facts, this.rows, this.loading, this.fault);
  }

  show(model, progress) {
    const able = model.diplex;
    const abilities = [able.chat ? "chat" : "no chat", able.images && "images", able.tools && "tools",
      `context of ${able.context_length}`, able.licence];
    setText(this.facts, abilities.filter(Boolean).join(" · "));
    const keys = able.deployments.map((it) => `${it.worker} ${it.backend} ${it.precision}`);
    for (const [key, row] of this.shown) {
      if (keys.includes(key)) continue;
      row.root.remove();
      this.shown.delete(key);
    }
    for (const [index, deployment] of able.deployments.entries()) {
      if (!this.shown.has(keys[index])) this.shown.set(keys[index], new Row(this));
      const row = this.shown.get(keys[index]);
      if (this.rows.children[index] !== row.root) this.rows.insertBefore(row.root, this.rows.children[index] ?? null);
      row.show(deployment, Boolean(progress));
    }
    this.#showProgress(progress);
  }

  async act(path, deployment) {
    const wanted = { model: this.name };
    for (const name of ["backend", "precision"]) {
      if (deployment[name] !== "unspecified") wanted[name] = deployment[name];
    }
    setText(this.fault, "");
    try {
      if (path === "load") await this.models.load(wanted);
      else await request("diplex/v1/models/unload", { body: wanted });
    } catch (error) {
      setText(this.fault, error.message);
    }
  }

  #showProgress(progress) {
    this.loading.hidden = !progress;
    if (!progress) return;
    if (progress.total) {
      this.progress.max = progress.total;
      this.progress.value = progress.done;
    } else this.progress.removeAttribute("value");
    setText(this.progressText, progressText(progress));
  }
}

/** One deployment of a model. */
class Row {
  constructor(item) {
    this.state = el("span.state");
    this.where = el("span.where");
    this.fill = el("span");
    this.bar = el("span.slots", { role: "img" }, this.fill);
    this.busy = el("span.busy");
    this.beside = el("span.muted");
    this.button = el("button", { type: "button", click: () => this.#act() }, "Load");
    this.item = item;
    this.root = el("li", {}, el("div.head", {}, this.state, this.where, this.button),
      el("div.use", {}, this.bar, this.busy), this.beside);
  }

  show(deployment, isLoading) {
    this.deployment = deployment;
    const { slots, state } = deployment;
    this.state.dataset.state = state;
    setText(this.state, STATES[state] ?? state);
    setText(this.where, [deployment.backend, deployment.precision, deployment.worker]
      .filter((word) => word !== "unspecified").join(" · "));
    this.root.classList.toggle("idle", state !== "ready");
    this.fill.style.transform = `scaleX(${slots.total ? slots.busy / slots.total : 0})`;
    this.bar.setAttribute("aria-label", `${slots.busy} of ${slots.total} slots busy`);
    setText(this.busy, `${slots.busy}/${slots.total} slots, ${slots.queued} waiting`);
    setText(this.beside, besideOf(deployment));
    this.isLoaded = state === "ready" || state === "loading" || state === "restarting";
    setText(this.button, this.isLoaded ? "Unload" : "Load");
    this.button.setAttribute("aria-label", `${this.isLoaded ? "Unload" : "Load"} ${this.item.name} ${this.where.textContent}`);
    this.button.disabled = isLoading && !this.isLoaded;
  }

  #act() {
    const { slots } = this.deployment;
    const running = slots.busy + slots.queued;
    const sure = !this.isLoaded || !running
      || confirm(`${running} requests run or wait on ${this.item.name}; they will fail. Unload it?`);
    if (sure) this.item.act(this.isLoaded ? "unload" : "load", this.deployment);
  }
}

function inUseFirst(models) {
  const isIdle = (model) => model.diplex.deployments.every((it) => it.state === "unloaded");
  return [...models.filter((model) => !isIdle(model)), ...models.filter(isIdle)];
}

function besideOf(deployment) {
  const { rates, detail, loaded_bytes: loaded, predicted_bytes: predicted, resident_bytes: resident } = deployment;
  const memory = resident ? size(resident) : loaded ? size(loaded) : predicted ? `about ${size(predicted)}` : "";
  const decoding = rates.decode_tokens_per_second;
  return [memory, decoding && `${Math.round(decoding)} tok/s`, deployment.pinned && "pinned", detail]
    .filter(Boolean).join(" · ");
}

function progressText({ phase, done, total, detail, eta_seconds: eta }) {
  const share = total ? `${Math.floor((100 * done) / total)} %` : "";
  return [PHASES[phase] ?? "Loading", share, eta ? `${Math.ceil(eta)} s left` : "", detail].filter(Boolean).join(" · ");
}

function summary(list) {
  const deployments = list.flatMap((model) => model.diplex.deployments);
  const workers = new Set(deployments.map((it) => it.worker)).size;
  const sum = (name) => deployments.reduce((all, it) => all + it.slots[name], 0);
  if (!list.length) return "No worker is connected yet.";
  return `${list.length} ${list.length > 1 ? "models" : "model"} on ${workers} ${workers > 1 ? "workers" : "worker"}; `
    + `${sum("busy")} of ${sum("total")} slots busy, ${sum("queued")} waiting`;
}

function pause(ms, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });
}
