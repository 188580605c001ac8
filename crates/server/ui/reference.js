// The API's own description, to be read: each path with what it takes and answers.

import { get } from "./api.js";
import { $, h } from "./dom.js";

const nameOf = (reference) => reference.split("/").at(-1);

/** A schema in words: its name, `X[]`, or the plain type. */
function words(schema) {
  if (!schema) return "";
  if (schema.$ref) return nameOf(schema.$ref);
  const options = schema.oneOf ?? schema.anyOf;
  if (options) return options.map(words).filter((word) => word !== "null").join(" or ");
  const types = [schema.type].flat().filter((type) => type && type !== "null").join(" or ");
  return types === "array" ? `${words(schema.items)}[]` : schema.enum ? schema.enum.join(" | ") : types || "anything";
}

const head = (...names) => h("thead", {}, h("tr", {}, names.map((name) => h("th", { scope: "col" }, name))));
const row = (name, type, text) => h("tr", {}, h("th", { scope: "row" }, h("code", {}, name)), h("td", {}, type), h("td", {}, text ?? ""));

/** The fields of a schema, those of the schemas in it to be opened. */
function fields(schema, all, seen = []) {
  const name = schema?.$ref ? nameOf(schema.$ref) : null;
  const is = name ? all[name] : schema;
  if (!is) return "";
  if (is.type === "array") return fields(is.items, all, seen);
  const known = is.properties ?? Object.assign({}, ...(is.allOf ?? is.oneOf ?? []).map((part) => part.properties ?? {}));
  if (!Object.keys(known).length || seen.includes(name)) return is.description ? h("p", {}, is.description) : "";
  const required = is.required ?? [];
  const rows = Object.entries(known).map(([field, of]) => row(required.includes(field) ? field : `${field}?`, words(of), of.description));
  return h("details", {}, h("summary", {}, name ?? "fields"), is.description ? h("p", {}, is.description) : "", h("table", {}, head("Field", "Type", "Meaning"), h("tbody", {}, rows)),
    Object.values(known).map((of) => of.$ref ?? of.items?.$ref).filter(Boolean).map(($ref) => fields({ $ref }, all, [...seen, name])));
}

function operation(path, method, is, all) {
  const parameters = is.parameters ?? [];
  const body = is.requestBody?.content?.["application/json"]?.schema;
  const answers = Object.entries(is.responses ?? {}).map(([status, answer]) => {
    const schema = Object.values(answer.content ?? {})[0]?.schema;
    return h("div", {}, h("h3", {}, `Answers ${status}: ${words(schema) || answer.description}`), words(schema) === "Problem" ? "" : fields(schema, all));
  });
  return h("article", {}, h("h2", {}, h("span", { class: "method" }, `${method.toUpperCase()} `), path), h("p", {}, is.description ?? is.summary ?? ""),
    parameters.length ? h("table", {}, head("Parameter", "Type", "Meaning"), h("tbody", {}, parameters.map((one) => row(one.required ? one.name : `${one.name}?`, words(one.schema), one.description)))) : "",
    body ? [h("h3", {}, `Takes ${words(body)}`), fields(body, all)] : "", answers);
}

const description = await get("/api/openapi.json").catch((error) => void $("reference").replaceChildren(h("p", { role: "alert" }, error.message)));
if (description) {
  const all = description.components?.schemas ?? {};
  $("reference").replaceChildren(h("p", {}, description.info.description),
    ...Object.entries(description.paths).flatMap(([path, methods]) => Object.entries(methods).map(([method, is]) => operation(path, method, is, all))));
}
