//! `audit` and `audit verify`: who did what, when, as CSV, and whether the log is the one that was written.

use std::path::Path;

use manager_core::audit::{Break, Chain};
use manager_core::rows::defused;
use serde_json::json;

use super::args::{Audit, AuditVerify};
use super::csv::write_csv;
use super::fail::{Done, Outcome};
use super::{open, show};

const COLUMNS: &str = "number,at,who,what,sha256";

pub(crate) fn audit(home: Option<&Path>, args: &Audit) -> Outcome {
    let home = open::home(home)?;
    let mut store = open::store(&home)?;
    write_csv(COLUMNS, args.output.as_deref(), |csv| {
        let put = |entry: manager_core::audit::Entry| {
            let (who, what) = (defused(&entry.who), defused(&entry.what));
            csv.put(&(entry.number, entry.at.to_string(), who, what, entry.digest.to_hex()));
            Ok(())
        };
        store.read(|tx| tx.audited(args.since, put)).map_err(open::store_failed)
    })
}

pub(crate) fn verify(home: Option<&Path>, args: &AuditVerify) -> Outcome {
    let home = open::home(home)?;
    let mut store = open::store(&home)?;
    let mut chain = Chain::default();
    let mut broken: Option<Break> = None;
    let mut head_seen = args.head.is_none();
    store
        .read(|tx| {
            tx.audited(None, |entry| {
                if broken.is_none() {
                    broken = chain.follow(&entry).err();
                    head_seen |= broken.is_none() && args.head == Some(entry.digest);
                }
                Ok(())
            })
        })
        .map_err(open::store_failed)?;
    let (rows, digest) = chain.head();
    let head = digest.map(|digest| digest.to_hex());
    let missing = broken.is_none() && !head_seen;
    if args.format.json {
        let broken = broken.map(|broken| broken.to_string());
        show::print_json(&json!({"rows": rows, "head": head, "broken": broken, "head_missing": missing}))?;
    } else if let Some(broken) = broken {
        show::say(&format!(
            "The audit log was altered: {broken}. The {rows} rows before it are as they were written."
        ))?;
    } else if missing {
        show::say(&format!(
            "The audit log has {rows} rows that follow each other, and none with this digest: it was cut off."
        ))?;
    } else {
        let head = head.unwrap_or_else(|| "-".to_owned());
        show::say(&format!("{rows} rows, each as it was written. Keep this elsewhere: {head}"))?;
    }
    Ok(if broken.is_some() || missing { Done::Partly } else { Done::All })
}
