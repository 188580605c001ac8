// Transactions of the log: pages of the whole list by ordinal, kept; a filtered list from the newest back.

import { get } from "./api.js";
import { databaseName, state } from "./store.js";

const PAGE = 200;
const KEPT_PAGES = 60;
const pages = new Map();
const asked = new Map();

export function forget() {
  pages.clear();
  asked.clear();
}

/** The transaction of that ordinal if it is at hand. */
export const known = (ordinal) => pages.get(Math.floor(ordinal / PAGE))?.[ordinal % PAGE];

/** The transaction of that ordinal, fetched with its neighbours. */
export async function transaction(ordinal) {
  const page = Math.floor(ordinal / PAGE);
  // A fetch that is under way may have begun before there was this transaction.
  for (let fetched = 0; fetched < 2 && !known(ordinal); fetched++) await load(page);
  return known(ordinal);
}

/** Fetches a page unless it is being fetched. */
export function load(page) {
  const database = databaseName();
  if (!asked.has(page)) {
    const fetching = get("/api/transactions", { first: page * PAGE, limit: PAGE, database })
      .then((answer) => database === databaseName() && keep(page, answer.transactions))
      .finally(() => asked.delete(page));
    asked.set(page, fetching);
  }
  return asked.get(page);
}

function keep(page, transactions) {
  pages.delete(page);
  // The first page that there is may begin in its midst.
  const placed = [];
  for (const one of transactions) if (pageOf(one.ordinal) === page) placed[one.ordinal % PAGE] = one;
  pages.set(page, placed);
  if (pages.size > KEPT_PAGES) pages.delete(pages.keys().next().value);
}

export const pageOf = (ordinal) => Math.floor(ordinal / PAGE);

/** A page of the filtered list, newest first, and the cursor of the next. */
export async function filtered(cursor) {
  const answer = await get("/api/transactions", { ...state.filter, order: "desc", limit: PAGE, cursor, database: databaseName() });
  return { transactions: answer.transactions.reverse(), next: answer.next_cursor, searched: answer.searched ?? 0 };
}

/** The entries of a transaction, a page at a time. */
export const entries = (of, cursor, signal) =>
  get("/api/wal-logs", { since: `entry:${of.first_entry}`, until: of.position.lsn, limit: PAGE, cursor, database: databaseName() }, signal);
