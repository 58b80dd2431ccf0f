//! Query plans: SQLite must run each statement through an index that also gives the order, so that its cost does not
//! grow with the tables.

use std::path::Path;

use rusqlite::Connection;
use tidings_model::delivery::DeliveryState;
use tidings_model::id::{AppId, DestinationNo, EventNo};

use super::Dir;
use crate::queue::DeliveryFilter;
use crate::sqlite::{listing, log, queue};

/// Statements that may scan whole tables, and why. Each is identified by a part of its text.
const EXEMPT: [(&str, &str); 13] = [
    ("UPDATE delivery SET due = due - ?1", "at start, and only when the clock was set back"),
    ("UPDATE fanout SET not_before", "at start, and only when the clock was set back"),
    ("lease_until = NULL WHERE lease IS NOT NULL", "once, at start"),
    ("INSERT INTO queue (destination, next_due) SELECT destination, MIN(due)", "once, at start"),
    ("DELETE FROM queue\"", "once, at start"),
    ("FROM lot ORDER BY event\"", "at start; lots are as few as deliveries in memory"),
    ("GROUP BY substr(sealed, 1, 4)", "once, at start"),
    ("FROM meta WHERE name GLOB", "once, at start; there are few"),
    ("FROM sqlite_master WHERE name", "once, at start, and only without a main key"),
    ("SELECT COUNT(*) FROM", "once, at start"),
    ("DELETE FROM failing WHERE destination IN", "the whole of a small table, once a minute"),
    ("SELECT destination, since FROM failing", "the whole of a small table is what is asked for"),
    ("WHERE l.disabled_at IS NOT NULL OR l.deleted <> 0", "of a sweep: one row per destination with work"),
];

fn plan(db: &Connection, sql: &str) -> Vec<String> {
    let mut explained = db.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap_or_else(|e| panic!("{e}: {sql}"));
    let rows = explained.raw_query().mapped(|row| row.get(3)).collect::<Result<_, _>>();
    rows.unwrap()
}

/// Scans that are fine: of an index with only the wanted rows, or in the wanted order up to the LIMIT.
const FINE: [&str; 6] = [
    "SCAN json_each",
    "SCAN CONSTANT ROW",
    "SCAN q USING COVERING INDEX queue_due",
    "SCAN fanout",
    "SCAN listener USING COVERING INDEX listener_orphans",
    "SCAN listener USING INDEX listener_unannounced",
];

/// What is wrong with a plan, if anything.
fn fault(plan: &[String]) -> Option<&String> {
    plan.iter().find(|step| {
        let scan = step.starts_with("SCAN ") && !FINE.iter().any(|fine| step.starts_with(fine));
        scan || step.contains("TEMP B-TREE")
    })
}

/// The string literals of a source file that are statements.
fn statements(source: &str) -> Vec<String> {
    let verbs = ["SELECT ", "INSERT ", "UPDATE ", "DELETE "];
    let begins = source.match_indices('"').filter(|(i, _)| verbs.iter().any(|verb| source[i + 1..].starts_with(verb)));
    begins.map(|(i, _)| source[i + 1..].split('"').next().unwrap_or_default().to_owned()).collect()
}

#[test]
fn every_statement_in_the_source_goes_through_an_index() {
    let dir = Dir::new();
    let _store = dir.store();
    let db = Connection::open(dir.path()).unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/sqlite");
    let mut seen = 0;
    let mut used = std::collections::BTreeSet::new();
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_none_or(|ext| ext != "rs") {
            continue;
        }
        for sql in statements(&std::fs::read_to_string(&path).unwrap()) {
            // Made with format!: tested below by calling what makes them.
            if sql.contains('{') {
                continue;
            }
            seen += 1;
            let quoted = format!("{sql}\"");
            if let Some((part, _)) = EXEMPT.iter().find(|(part, _)| quoted.contains(part)) {
                used.insert(*part);
                continue;
            }
            let plan = plan(&db, &sql);
            assert_eq!(fault(&plan), None, "{}: {sql}\n{plan:#?}", path.display());
        }
    }
    assert!(seen > 50, "only {seen} statements found: has the code moved?");
    assert_eq!(used.len(), EXEMPT.len(), "an exemption is no longer needed; used are {used:#?}");
}

#[test]
fn every_list_in_every_combination_goes_through_an_index() {
    let dir = Dir::new();
    let _store = dir.store();
    let db = Connection::open(dir.path()).unwrap();
    let check = |sql: &str| {
        let plan = plan(&db, sql);
        assert_eq!(fault(&plan), None, "{sql}\n{plan:#?}");
        // One app's list must not be found by reading every app's.
        assert!(plan.iter().any(|step| step.starts_with("SEARCH")), "{sql}\n{plan:#?}");
    };
    let app = AppId::from("1");
    for table in ["delivery", "closed"] {
        for state in [None].into_iter().chain(DeliveryState::ALL.map(Some)) {
            for event in [None, Some(EventNo(1))] {
                for destination in [None, Some(DestinationNo(1))] {
                    for before in [None, Some((EventNo(1), DestinationNo(1)))] {
                        let filter = DeliveryFilter { state, destination, event, before, limit: 10 };
                        check(&listing::statement(table, &app, &filter).0);
                    }
                }
            }
        }
    }
    for (name, channel) in [(false, false), (true, false), (false, true)] {
        check(log::listing(name, channel));
    }
    check(log::BY_ID);
    check(log::BY_PLACE);
    check(listing::ATTEMPTS);
    check(queue::FAILING_OF);
}

#[test]
fn the_check_itself_finds_what_it_is_for() {
    let dir = Dir::new();
    let _store = dir.store();
    let db = Connection::open(dir.path()).unwrap();
    for bad in [
        "SELECT app FROM delivery WHERE attempts > 3",
        "SELECT no FROM event WHERE app = ?1 AND name = ?2 ORDER BY time",
        "SELECT id FROM listener WHERE app > '' AND disabled_at IS NULL ORDER BY created_at",
    ] {
        assert!(fault(&plan(&db, bad)).is_some(), "{bad}: {:?}", plan(&db, bad));
    }
}
