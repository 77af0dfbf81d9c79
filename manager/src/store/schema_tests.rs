//! The schema: its document says what the migrations make, and migrations that were committed stay as they are.

use std::collections::BTreeMap;

use super::*;
use shared::Digest;

/// Table → columns: name, type, NULL.
type Schema = BTreeMap<String, Vec<(String, String, bool)>>;

fn made(conn: &Connection) -> Schema {
    let mut tables = conn
        .prepare("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
        .unwrap();
    let names: Vec<String> = tables.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    names
        .into_iter()
        .map(|table| {
            let mut columns =
                conn.prepare("SELECT name, type, \"notnull\" FROM pragma_table_info(?1)").unwrap();
            let columns = columns
                .query_map([&table], |row| Ok((row.get(0)?, row.get(1)?, !row.get::<_, bool>(2)?)))
                .unwrap()
                .map(Result::unwrap)
                .collect();
            (table, columns)
        })
        .collect()
}

fn documented() -> Schema {
    let mut schema = Schema::new();
    let mut table = String::new();
    for line in include_str!("schema.md").lines() {
        if let Some(name) = line.strip_prefix("## ") {
            table = name.to_owned();
        }
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        if let ["", column, kind, null @ ("yes" | "no"), meaning, ""] = cells.as_slice() {
            assert!(!meaning.is_empty(), "{table}.{column} has no meaning");
            let columns = schema.entry(table.clone()).or_default();
            columns.push(((*column).to_owned(), (*kind).to_owned(), *null == "yes"));
        }
    }
    schema
}

#[test]
fn the_schema_document_says_what_the_migrations_make() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::create(&dir.path().join("store.db")).unwrap();
    assert_eq!(documented(), made(&store.conn));
    let strict: i64 = store
        .conn
        .query_row(
            "SELECT count(*) FROM pragma_table_list WHERE strict = 0 AND schema = 'main' AND name NOT LIKE 'sqlite_%'",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(strict, 0, "every table is STRICT");
}

#[test]
fn a_migration_that_was_committed_is_never_edited() {
    let digests: Vec<String> =
        MIGRATIONS.iter().map(|sql| Digest::of(sql.as_bytes()).to_hex().chars().take(16).collect()).collect();
    assert_eq!(
        digests,
        [
            "f42480f7c1f949ee",
            "fabfdb4b287ca9f9",
            "faf44519b48dd544",
            "411848a272cafbff",
            "407bccba8827416e",
            "1f383a2c4a3c983c",
            "5b4a2e3bacf8321d",
            "ac7adda5e0031040",
            "9906642ae19e2773",
            "7d1a7bd06ffdf84b",
            "9d7a29552d2114cf"
        ],
        "add a migration and its digest; do not edit one"
    );
}

#[test]
fn a_store_of_every_earlier_version_is_brought_up_to_date_with_its_content() {
    for earlier in 1..=MIGRATIONS.len() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.db");
        let mut conn = Connection::open(&path).unwrap();
        let migrations = Migrations::new(MIGRATIONS[..earlier].iter().map(|sql| M::up(sql)).collect());
        migrations.to_latest(&mut conn).unwrap();
        conn.execute("UPDATE counters SET value = 42", []).unwrap();
        drop(conn);
        let store = Store::open(&path).unwrap();
        let value: i64 = store.conn.query_row("SELECT value FROM counters", [], |row| row.get(0)).unwrap();
        assert_eq!(value, 42);
        assert_eq!(documented(), made(&store.conn), "from version {earlier}");
    }
}

#[test]
fn what_the_mail_loops_ask_all_day_does_not_look_through_years_of_orders() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::create(&dir.path().join("store.db")).unwrap();
    let plan = |sql: &str| -> String {
        let mut statement = store.conn.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let count = statement.parameter_count();
        let rows = statement
            .query_map(rusqlite::params_from_iter(vec![1i64; count]), |row| row.get::<_, String>(3))
            .unwrap();
        rows.map(|row| row.unwrap() + "\n").collect()
    };
    for sql in [outbox::DUE_LINE, outbox::DUE_OF, outbox::DROP_QUEUED, outbox::NEXT_TRY] {
        let plan = plan(sql);
        assert!(!plan.contains("SCAN o\n") && !plan.contains("SCAN recipients\n"), "{sql}\n{plan}");
        assert!(!plan.contains("SCAN outbox\n") && !plan.contains("SCAN r\n"), "{sql}\n{plan}");
    }
    let of_devices = [
        device_plans::DUE,
        device_plans::NEXT,
        device_plans::SENT,
        device_plans::CHOICES,
        device_updates::OF_AGENT,
        device_updates::OF_CAMPAIGN,
        device_updates::COUNTS,
    ];
    for sql in of_devices {
        let plan = plan(sql);
        assert!(!plan.contains("SCAN "), "{sql}\n{plan}");
    }
}
