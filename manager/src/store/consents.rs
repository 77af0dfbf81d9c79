//! Letters to people, and the questions to administrators that some of them are (N5, N8).

use manager_core::CampaignId;
use manager_core::alert::Addressee;
use manager_core::letter::Letter;
use rusqlite::params;
use shared::{Digest, EnvelopeId, MailAddress, UnixMillis};

use super::rows::{digest, mail, time};
use super::{Tx, TxResult};

/// A question to an administrator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsentRecord {
    /// SHA-256 of the token.
    pub token: Digest,
    /// About which campaign.
    pub campaign: CampaignId,
    /// About which bundle.
    pub bundle: Digest,
    /// Who was asked.
    pub admin: MailAddress,
    /// In which dates of the answer are read.
    pub zone: String,
    /// When.
    pub asked_at: UnixMillis,
    /// Until when an answer counts.
    pub until: UnixMillis,
    /// Was told what an answer looks like.
    pub explained: bool,
}

impl Tx<'_> {
    /// Puts a letter into the outbox of mails for people.
    ///
    /// # Errors
    /// The database's.
    pub fn add_letter(
        &self,
        envelope: EnvelopeId,
        to: &MailAddress,
        letter: &Letter,
        now: UnixMillis,
        expires: UnixMillis,
    ) -> TxResult<()> {
        self.0.execute(
            "INSERT INTO alerts (envelope, addressee, subject, text, html, state, created, expires, next_try)
             VALUES (?1, ?2, ?3, ?4, ?5, 'queued', ?6, ?7, ?6)",
            params![
                envelope.0,
                Addressee::Mail(to.clone()).to_text(),
                letter.subject,
                letter.text,
                letter.html,
                now.0,
                expires.0
            ],
        )?;
        Ok(())
    }

    /// Keeps a question.
    ///
    /// # Errors
    /// The database's.
    pub fn add_consent(&self, consent: &ConsentRecord) -> TxResult<()> {
        self.0.execute(
            "INSERT INTO consents (token, campaign, bundle, admin, zone, asked_at, until) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![
                consent.token.0,
                consent.campaign.0,
                consent.bundle.0,
                consent.admin.as_str(),
                consent.zone,
                consent.asked_at.0,
                consent.until.0
            ],
        )?;
        Ok(())
    }

    /// The question of a token.
    ///
    /// # Errors
    /// The database's, or a bad row.
    pub fn consent(&self, token: Digest) -> TxResult<Option<ConsentRecord>> {
        let mut statement = self.0.prepare_cached("SELECT * FROM consents WHERE token = ?1")?;
        let mut rows = statement.query([token.0])?;
        let Some(row) = rows.next()? else { return Ok(None) };
        Ok(Some(ConsentRecord {
            token: digest(row, "token")?,
            campaign: CampaignId(row.get("campaign")?),
            bundle: digest(row, "bundle")?,
            admin: mail(row, "admin")?,
            zone: row.get("zone")?,
            asked_at: time(row, "asked_at")?,
            until: time(row, "until")?,
            explained: row.get::<_, i64>("explained")? != 0,
        }))
    }

    /// Notes an answer that was understood.
    ///
    /// # Errors
    /// The database's.
    pub fn consent_answered(&self, token: Digest, answer: &str, now: UnixMillis) -> TxResult<()> {
        self.0.execute(
            "UPDATE consents SET answer = ?2, answered_at = ?3 WHERE token = ?1",
            params![token.0, answer, now.0],
        )?;
        Ok(())
    }

    /// Notes that somebody was told what an answer looks like.
    ///
    /// # Errors
    /// The database's.
    pub fn consent_explained(&self, token: Digest) -> TxResult<()> {
        self.0.execute("UPDATE consents SET explained = 1 WHERE token = ?1", [token.0])?;
        Ok(())
    }

    /// Notes that an administrator was told of a campaign's end. False if it was so before.
    ///
    /// # Errors
    /// The database's.
    pub fn told(&self, campaign: CampaignId, admin: &MailAddress) -> TxResult<bool> {
        let mut statement = self
            .0
            .prepare_cached("INSERT INTO told (campaign, admin) VALUES (?1, ?2) ON CONFLICT DO NOTHING")?;
        Ok(statement.execute(params![campaign.0, admin.as_str()])? == 1)
    }
}
