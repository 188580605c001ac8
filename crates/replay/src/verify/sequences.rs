//! Whether the sequences of a replica are what is promised.
//!
//! The stream carries no sequence values. Where a checkpoint sampled them at the very position that the replica
//! is at, they are as sampled: that is what going there sets. Elsewhere they are never behind: neither behind the
//! last sample before, nor behind the rows that they fill, where the primary's own sequence is not.

use std::collections::BTreeMap;

use ptr_log::SequenceSample;
use ptr_model::{Position, SequenceState};
use ptr_postgres::{QualifiedName, quote_identifier};
use serde::Serialize;

use super::VerifyError;
use crate::{database::Doing, snapshot::Exported};

/// A sequence that is not what is promised.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct SequenceDifference {
    /// The sequence, quoted.
    pub sequence: String,
    /// What it holds in the replica.
    pub found: i64,
    /// What it should hold, or be at least at.
    pub expected: i64,
    /// Whether it should hold just that.
    pub exactly: bool,
}

/// What a sequence of the replica is.
struct Facts {
    ascending: bool,
    cycles: bool,
    /// The table and the column that it fills.
    fills: Option<(QualifiedName, String)>,
}

const FACTS: &str = "
    SELECT n.nspname::text, c.relname::text, q.seqincrement > 0, q.seqcycle, tn.nspname::text, t.relname::text, a.attname::text
    FROM pg_sequence q JOIN pg_class c ON c.oid = q.seqrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid
        AND d.refclassid = 'pg_class'::regclass AND d.refobjsubid > 0 AND d.deptype IN ('a', 'i')
    LEFT JOIN pg_class t ON t.oid = d.refobjid AND t.relkind IN ('r', 'p')
    LEFT JOIN pg_namespace tn ON tn.oid = t.relnamespace
    LEFT JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = d.refobjsubid
        AND a.atttypid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype)";

/// Compares what the sequences of a replica at `position` hold (`found`) with the newest sample not after that
/// position, and with what the primary's hold now, where that is known.
///
/// # Errors
/// Where the replica cannot be read.
pub async fn sequence_differences(
    replica: &Exported,
    found: &[SequenceState],
    sample: Option<&SequenceSample>,
    position: Position,
    primary_now: Option<&[SequenceState]>,
) -> Result<Vec<SequenceDifference>, VerifyError> {
    let facts = facts(replica).await?;
    let sampled = by_name(sample.map_or(&[][..], |sample| &sample.states));
    let exact = sample.is_some_and(|sample| sample.position == position);
    let primary = by_name(primary_now.unwrap_or_default());
    let mut differences = Vec::new();
    for state in found {
        let name = name(state);
        let difference = |expected: i64, exactly| SequenceDifference {
            sequence: QualifiedName::new(&name.0, &name.1).to_string(),
            found: state.last_value,
            expected,
            exactly,
        };
        let (sampled, facts) = (sampled.get(&name).copied(), facts.get(&name));
        if exact && let Some(sampled) = sampled {
            if place(sampled) != place(state) {
                differences.push(difference(sampled.last_value, true));
            }
            continue;
        }
        let Some(facts) = facts.filter(|facts| !facts.cycles) else { continue };
        if let Some(sampled) = sampled.filter(|sampled| sampled.is_called && is_behind(state, sampled, facts))
        {
            differences.push(difference(sampled.last_value, false));
            continue;
        }
        if let Some(primary) = primary.get(&name).filter(|primary| is_behind(state, primary, facts))
            && let Some(furthest) = furthest_row(replica, facts).await?
        {
            // As far as the rows go, or the primary where that is not as far.
            let last = if facts.ascending {
                furthest.min(primary.last_value)
            } else {
                furthest.max(primary.last_value)
            };
            let least = SequenceState { last_value: last, is_called: true, ..state.clone() };
            if is_behind(state, &least, facts) {
                differences.push(difference(last, false));
            }
        }
    }
    Ok(differences)
}

fn name(state: &SequenceState) -> (String, String) {
    (state.schema.clone(), state.name.clone())
}

fn by_name(states: &[SequenceState]) -> BTreeMap<(String, String), &SequenceState> {
    states.iter().map(|state| (name(state), state)).collect()
}

/// What orders the states of an ascending sequence.
fn place(state: &SequenceState) -> (i64, bool) {
    (state.last_value, state.is_called)
}

fn is_behind(state: &SequenceState, other: &SequenceState, facts: &Facts) -> bool {
    let (one, two) = (place(state), place(other));
    if facts.ascending { one < two } else { (-i128::from(one.0), one.1) < (-i128::from(two.0), two.1) }
}

async fn facts(replica: &Exported) -> Result<BTreeMap<(String, String), Facts>, VerifyError> {
    let rows = replica.connection().query(FACTS, &[]).await.doing("list the sequences")?;
    let facts = rows.iter().map(|row| {
        let fills: [Option<String>; 3] = [row.get(4), row.get(5), row.get(6)];
        let fills = match fills {
            [Some(schema), Some(table), Some(column)] => Some((QualifiedName::new(schema, table), column)),
            _ => None,
        };
        ((row.get(0), row.get(1)), Facts { ascending: row.get(2), cycles: row.get(3), fills })
    });
    Ok(facts.collect())
}

/// The value that is furthest in the direction of the sequence in the column that it fills.
async fn furthest_row(replica: &Exported, facts: &Facts) -> Result<Option<i64>, VerifyError> {
    let Some((table, column)) = &facts.fills else { return Ok(None) };
    let function = if facts.ascending { "max" } else { "min" };
    let sql = format!("SELECT {function}({})::bigint FROM {table}", quote_identifier(column));
    let row = replica.connection().query_one(&sql, &[]).await.doing_with(|| format!("read {table}"))?;
    Ok(row.get(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn behind_is_in_the_direction_of_the_increment() {
        let state = |last_value, is_called| SequenceState {
            schema: "s".into(),
            name: "n".into(),
            last_value,
            is_called,
        };
        let up = Facts { ascending: true, cycles: false, fills: None };
        let down = Facts { ascending: false, cycles: false, fills: None };
        assert!(is_behind(&state(1, true), &state(2, true), &up));
        assert!(is_behind(&state(1, false), &state(1, true), &up));
        assert!(!is_behind(&state(2, false), &state(1, true), &up));
        assert!(is_behind(&state(-1, true), &state(-2, true), &down));
        assert!(is_behind(&state(-1, false), &state(-1, true), &down));
        assert!(!is_behind(&state(i64::MIN, true), &state(-2, true), &down));
    }
}
