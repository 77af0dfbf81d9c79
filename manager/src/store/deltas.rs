//! Deltas of bundles: which there are, whom they fit, and the sealed bodies of a campaign by form.

use std::collections::BTreeMap;

use manager_core::delta::{DeltaFacts, fitting};
use manager_core::{Campaign, CampaignId};
use rusqlite::{Row, params};
use shared::bundle::Form;
use shared::message::VersionReport;
use shared::{AgentId, Digest};

use super::rows::{agent_id, bad, cbor, signed, to_cbor, unsigned};
use super::{Tx, TxResult};

impl Tx<'_> {
    /// Keeps what is known of a bundle's deltas; nothing changes if that is kept already.
    ///
    /// # Errors
    /// The database's.
    pub fn add_deltas(&self, bundle: Digest, deltas: &[DeltaFacts]) -> TxResult<()> {
        let mut statement = self.0.prepare_cached(
            "INSERT INTO deltas (bundle, number, bytes, base) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (bundle, number) DO NOTHING",
        )?;
        for delta in deltas {
            statement.execute(params![bundle.0, delta.number, signed(delta.bytes), to_cbor(&delta.base)])?;
        }
        Ok(())
    }

    /// A bundle's deltas.
    ///
    /// # Errors
    /// The database's, or a bad row.
    pub fn deltas(&self, bundle: Digest) -> TxResult<Vec<DeltaFacts>> {
        let mut statement = self
            .0
            .prepare_cached("SELECT number, bytes, base FROM deltas WHERE bundle = ?1 ORDER BY number")?;
        let mut rows = statement.query([bundle.0])?;
        let mut deltas = Vec::new();
        while let Some(row) = rows.next()? {
            deltas.push(DeltaFacts {
                number: number(row)?,
                bytes: unsigned(row, "bytes")?,
                base: cbor("delta", &row.get::<_, Vec<u8>>("base")?)?,
            });
        }
        Ok(deltas)
    }

    /// Targets of a campaign that have reported what one of its bundle's deltas was made for, with the number of that.
    ///
    /// # Errors
    /// The database's, or a bad row.
    pub fn fitting_deltas(&self, campaign: &Campaign) -> TxResult<BTreeMap<AgentId, u8>> {
        let deltas = self.deltas(campaign.bundle.digest)?;
        let mut found = BTreeMap::new();
        if deltas.is_empty() {
            return Ok(found);
        }
        let mut statement = self.0.prepare_cached(
            "SELECT a.id, a.versions FROM agents a JOIN targets t ON t.agent = a.id
             WHERE t.campaign = ?1 AND a.versions IS NOT NULL",
        )?;
        let mut rows = statement.query([campaign.id.0])?;
        while let Some(row) = rows.next()? {
            let report: VersionReport = cbor("version report", &row.get::<_, Vec<u8>>("versions")?)?;
            if let Some(delta) = fitting(&deltas, Some(&report)) {
                found.insert(agent_id(row, "id")?, delta.number);
            }
        }
        Ok(found)
    }

    /// The sealed bodies of a campaign's orders that were made so far.
    ///
    /// # Errors
    /// The database's, or a bad row.
    pub fn campaign_bodies(&self, id: CampaignId) -> TxResult<BTreeMap<Form, i64>> {
        let mut bodies: BTreeMap<Form, i64> =
            self.campaign_body(id)?.map(|body| (Form::Full, body)).into_iter().collect();
        let mut statement =
            self.0.prepare_cached("SELECT number, body FROM delta_bodies WHERE campaign = ?1")?;
        let mut rows = statement.query([id.0])?;
        while let Some(row) = rows.next()? {
            bodies.insert(Form::Delta(number(row)?), row.get("body")?);
        }
        Ok(bodies)
    }

    /// Notes the sealed body of a campaign's orders of one form.
    ///
    /// # Errors
    /// The database's.
    pub fn add_campaign_body(&self, id: CampaignId, form: Form, body: i64) -> TxResult<()> {
        let Form::Delta(number) = form else { return self.set_campaign_body(id, body) };
        self.0.execute(
            "INSERT INTO delta_bodies (campaign, number, body) VALUES (?1, ?2, ?3)",
            params![id.0, number, body],
        )?;
        Ok(())
    }
}

fn number(row: &Row<'_>) -> TxResult<u8> {
    u8::try_from(row.get::<_, i64>("number")?).map_err(|err| bad("delta", err))
}
