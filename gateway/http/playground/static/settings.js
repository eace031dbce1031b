// The form with what goes with every request; kept in the browser.

import { byId, setText } from "./dom.js";

const STORE = "diplex-settings";
const NUMBERS = ["temperature", "seed", "top_p", "top_k", "min_p", "repetition_penalty", "max_completion_tokens", "n"];
const CHOICES = ["model", "backend", "precision"];
const PRECISIONS = ["fp32", "bf16", "fp16", "int8", "int4", "q4", "q4_mixed", "q4f16"];

/** The settings; `changed()` is called behind each change. */
export class Settings {
  constructor(changed) {
    this.form = byId("settings");
    this.changed = changed;
    for (const name of PRECISIONS) byId("precision").append(new Option(name, name));
    this.#restore();
    const note = () => {
      this.#check();
      this.#keep();
      changed();
    };
    this.form.addEventListener("input", note);
    this.form.addEventListener("submit", (event) => event.preventDefault());
    this.form.addEventListener("reset", () => setTimeout(note)); // the fields are reset behind the event
    for (const id of CHOICES) byId(id).addEventListener("change", note);
  }

  /** Name of the model that was chosen last; empty for none. */
  get wantedModel() {
    return this.kept.model ?? "";
  }

  /** The system message. */
  get system() {
    return this.form.elements.system.value.trim();
  }

  /** How many answers are wanted. */
  get answers() {
    return Number(this.form.elements.n.value) || 1;
  }

  /** Whether answers are JSON. */
  get json() {
    return Boolean(this.form.elements.schema.value.trim());
  }

  /** The first field that can't be sent as it is; shown. */
  fault() {
    this.#check();
    return [...this.form.elements].find((field) => !field.checkValidity?.()) ?? null;
  }

  /** The fields of a request, but for its messages. What is empty isn't said. */
  fields() {
    const { elements } = this.form;
    const fields = { model: byId("model").value };
    for (const id of ["backend", "precision"]) if (byId(id).value) fields[id] = byId(id).value;
    for (const name of NUMBERS) if (elements[name].value !== "") fields[name] = Number(elements[name].value);
    const stop = elements.stop.value.split("\n").filter(Boolean);
    if (stop.length) fields.stop = stop;
    if (this.json) {
      const schema = JSON.parse(elements.schema.value);
      fields.response_format = { type: "json_schema", json_schema: { name: "answer", schema } };
    }
    return fields;
  }

  #check() {
    const { schema } = this.form.elements;
    const fault = this.json ? schemaFault(schema.value) : "";
    schema.setCustomValidity(fault);
    schema.setAttribute("aria-invalid", String(Boolean(fault)));
    setText(byId("schema-fault"), fault);
  }

  #keep() {
    this.kept = Object.fromEntries([...this.form.elements].filter((it) => it.name).map((it) => [it.name, it.value]));
    for (const id of CHOICES) this.kept[id] = byId(id).value;
    document.documentElement.dataset.theme = this.kept.theme;
    try {
      localStorage.setItem(STORE, JSON.stringify(this.kept));
    } catch {
      // Without storage they last as long as the page.
    }
  }

  #restore() {
    try {
      this.kept = JSON.parse(localStorage.getItem(STORE) || "{}");
    } catch {
      this.kept = {};
    }
    for (const field of this.form.elements) if (field.name in this.kept) field.value = this.kept[field.name];
    for (const id of ["backend", "precision"]) byId(id).value = this.kept[id] ?? "";
    this.#check();
  }
}

function schemaFault(text) {
  try {
    const schema = JSON.parse(text);
    const isSchema = typeof schema === "object" && schema !== null && !Array.isArray(schema);
    return isSchema ? "" : "A schema is a JSON object.";
  } catch (error) {
    return `This isn't JSON yet: ${error.message}`;
  }
}
