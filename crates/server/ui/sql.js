// A change as a statement, and as the one that takes it back. Values are untyped literals, so that the column
// decides what they are; rows are found by all their known columns, because a change does not say which are the key.

const name = (text) => `"${text.replaceAll('"', '""')}"`;
const isUnsent = (value) => typeof value === "object" && value !== null;

function literal(value) {
  if (value === null) return "NULL";
  if (typeof value === "number" || typeof value === "boolean") return String(value);
  const quoted = `'${value.replaceAll("'", "''").replaceAll("\\", "\\\\")}'`;
  return value.includes("\\") ? ` E${quoted}` : quoted;
}

/** What a comment says stays in it, whatever a name holds. */
const comment = (text) => `-- ${text.replace(/[\r\n]+/g, " ")}`;

const known = (row) => Object.entries(row).filter(([, value]) => !isUnsent(value));
const where = (row) => known(row).map(([key, value]) => (value === null ? `${name(key)} IS NULL` : `${name(key)} = ${literal(value)}`)).join(" AND ");
const tableOf = (entry) => `${name(entry.schema)}.${name(entry.table)}`;

function insert(table, row) {
  const cells = known(row);
  return `INSERT INTO ${table} (${cells.map(([key]) => name(key)).join(", ")}) VALUES (${cells.map(([, value]) => literal(value)).join(", ")});`;
}

function update(table, from, to) {
  const set = known(to).filter(([key, value]) => JSON.stringify(from[key]) !== JSON.stringify(value) && !isUnsent(from[key]));
  return set.length ? `UPDATE ${table} SET ${set.map(([key, value]) => `${name(key)} = ${literal(value)}`).join(", ")} WHERE ${where(from)};` : "-- an update that changed nothing";
}

export function statement(entry) {
  switch (entry.operation) {
    case "INSERT": return insert(tableOf(entry), entry.data);
    case "UPDATE": return entry.old_data ? update(tableOf(entry), entry.old_data, entry.data) : "-- an update whose old row is not known";
    case "DELETE": return `DELETE FROM ${tableOf(entry)} WHERE ${where(entry.data)};`;
    case "DDL": return entry.sql ? `${entry.sql};` : "-- a schema change without a statement";
    default: return comment(`${entry.operation} ${entry.table}`);
  }
}

/** Of a table whose replica identity is not FULL only the key came from before; what its other columns held is not known. */
function unsent({ old_data: before, data }) {
  const missing = Object.keys(data).filter((key) => !(key in before) && !isUnsent(data[key]));
  return missing.length ? ` ${comment(`not taken back, as their values before were not sent: ${missing.map(name).join(", ")}`)}` : "";
}

export function inverse(entry) {
  switch (entry.operation) {
    case "INSERT": return `DELETE FROM ${tableOf(entry)} WHERE ${where(entry.data)};`;
    case "UPDATE": return entry.old_data ? update(tableOf(entry), entry.data, entry.old_data) + unsent(entry) : "-- an update whose old row is not known";
    case "DELETE": return insert(tableOf(entry), entry.data);
    default: return comment(`${entry.operation} cannot be taken back by a statement: ${entry.sql ?? entry.table}`);
  }
}
