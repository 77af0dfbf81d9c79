//! Asks over UDP, by the library `async-snmp`: versions 1, 2c and 3. One socket for all devices of an address family, one
//! request in flight per device.
//!
//! Not here: what is asked, and what to do when a device stumbles (`fetch`).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use async_snmp::{
    Auth as WireAuth, AuthProtocol, Client, DesSaltState, EngineCache, Error, ErrorStatus, MasterKeys,
    PersistedDesSaltState, PrivProtocol, Retry, UdpHandle, UdpTransport, UsmConfig, Value as WireValue,
    VarBind,
};
use tokio::sync::OnceCell;

use super::ask::{Answer, Ask, AskFault, How, ObjectStatus};
use super::oid::Oid;
use super::rows::Value;
use crate::access::{Auth, Privacy, Snmp, SnmpIdentity};
use crate::limits::{KEYS_MAX_COUNT, OBJECTS_MAX_COUNT, RETRIES, SOCKET_BUFFER_BYTES};

/// Port of SNMP agents.
const PORT: u16 = 161;

/// Passwords of a user, and what they are for.
type Secrets = (Auth, String, Option<(Privacy, String)>);

/// What polls share: sockets, and of version 3 the engines that were met and the keys made of passwords (making one costs
/// a digest over 1 MiB, RFC 3414 A.2).
#[derive(Default)]
pub(crate) struct Net {
    v4: OnceCell<UdpTransport>,
    v6: OnceCell<UdpTransport>,
    engines: Arc<EngineCache>,
    keys: Mutex<BTreeMap<Secrets, MasterKeys>>,
    des: OnceCell<DesSaltState>,
}

/// Whom a client believes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    Usual,
    Listening,
}

/// One device on the wire.
pub(crate) struct Wire {
    client: Client<UdpHandle>,
    has_bulk: bool,
}

impl Net {
    /// Makes ready to ask a device; sends nothing.
    ///
    /// # Errors
    /// Its name is unknown, or our own side cannot.
    pub(crate) async fn wire(&self, snmp: &Snmp, timeout: Duration) -> Result<Wire, AskFault> {
        self.ready(snmp, timeout, Manner::Usual).await
    }

    /// The same, to ask once why a device of version 3 does not answer: what it says without authenticating itself is heard.
    ///
    /// # Errors
    /// Its name is unknown, or our own side cannot.
    pub(crate) async fn listening_wire(&self, snmp: &Snmp, timeout: Duration) -> Result<Wire, AskFault> {
        self.ready(snmp, timeout, Manner::Listening).await
    }

    async fn ready(&self, snmp: &Snmp, timeout: Duration, manner: Manner) -> Result<Wire, AskFault> {
        let peer = resolve(&snmp.address).await?;
        let auth = self.auth(&snmp.identity)?;
        let has_bulk = !matches!(snmp.identity, SnmpIdentity::V1 { .. });
        let retries = if manner == Manner::Usual { RETRIES } else { 0 };
        let retry = Retry::fixed(retries, Duration::ZERO).map_err(local)?;
        let mut builder = Client::builder(peer, auth)
            .request_timeout(timeout)
            .retry(retry)
            .max_oids_per_request(OBJECTS_MAX_COUNT)
            // The library's one way to hear reports that are not authentic. None of them is believed but as a reason.
            .allow_unauthenticated_v3_time_correction(manner == Manner::Listening)
            .engine_cache(Arc::clone(&self.engines));
        if let SnmpIdentity::V3 { privacy: Some((Privacy::Des, _)), .. } = &snmp.identity {
            builder = builder.des_salt_state(self.des_salts().await?);
        }
        let client =
            Box::pin(builder.build_with(self.socket(peer).await?)).await.map_err(|err| fault(&err))?;
        Ok(Wire { client, has_bulk })
    }

    /// True if something at the address has answered the question of version 3 that anybody may ask (RFC 3414 §4).
    pub(crate) fn knows(&self, wire: &Wire) -> bool {
        self.engines.get(&wire.client.peer_addr()).is_some()
    }

    /// Forgets the engine of a device: it may have been replaced.
    pub(crate) fn forget(&self, wire: &Wire) {
        self.engines.remove(&wire.client.peer_addr());
    }

    async fn socket(&self, peer: SocketAddr) -> Result<&UdpTransport, AskFault> {
        let (cell, any) = if peer.is_ipv4() { (&self.v4, "0.0.0.0:0") } else { (&self.v6, "[::]:0") };
        let open = || UdpTransport::builder().bind(any).recv_buffer_size(SOCKET_BUFFER_BYTES).build();
        cell.get_or_try_init(open).await.map_err(|err| AskFault::Local(err.to_string()))
    }

    /// Numbers that no two messages under one DES key may share. Their first half is the second of this program's first
    /// need of them, so that a restart does not begin anew; nothing has to be stored.
    async fn des_salts(&self) -> Result<DesSaltState, AskFault> {
        let make = || async {
            let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_err(local)?;
            // 31 bits, of which the clock uses up the last in 2038; then it begins again.
            let epoch = u32::try_from(since.as_secs() & 0x3fff_ffff).map_err(local)?.max(1);
            let epoch = PersistedDesSaltState::new(epoch).map_err(local)?;
            DesSaltState::restart(epoch, |_| Ok::<(), std::io::Error>(())).map_err(local)
        };
        self.des.get_or_try_init(make).await.cloned()
    }

    fn auth(&self, identity: &SnmpIdentity) -> Result<WireAuth, AskFault> {
        Ok(match identity {
            SnmpIdentity::V1 { community } => WireAuth::v1(community),
            SnmpIdentity::V2c { community } => WireAuth::v2c(community),
            SnmpIdentity::V3 { user, auth, privacy, context } => {
                let mut usm = UsmConfig::new(user.clone()).context_name(context.clone());
                if let Some((auth, password)) = auth {
                    let keys = self.keys_of(&(*auth, password.clone(), privacy.clone()))?;
                    usm = usm.with_master_keys(keys).map_err(local)?;
                }
                WireAuth::Usm(usm)
            }
        })
    }

    fn keys_of(&self, secrets: &Secrets) -> Result<MasterKeys, AskFault> {
        let mut cache = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(keys) = cache.get(secrets) {
            return Ok(keys.clone());
        }
        let (auth, password, privacy) = secrets;
        let mut keys = MasterKeys::new(auth_protocol(*auth), password.as_bytes()).map_err(local)?;
        if let Some((privacy, password)) = privacy {
            keys = keys.with_privacy(privacy_protocol(*privacy), password.as_bytes()).map_err(local)?;
        }
        if cache.len() >= KEYS_MAX_COUNT {
            cache.clear();
        }
        cache.insert(secrets.clone(), keys.clone());
        Ok(keys)
    }
}

/// The device's address. A name may have several: the first is taken, as other programs do.
async fn resolve(address: &str) -> Result<SocketAddr, AskFault> {
    if let Ok(peer) = address.parse() {
        return Ok(peer);
    }
    // An IPv6 address without a port has colons too.
    let plain = address.trim_start_matches('[').trim_end_matches(']');
    if let Ok(ip) = plain.parse() {
        return Ok(SocketAddr::new(ip, PORT));
    }
    let with_port = if address.contains(':') { address.to_owned() } else { format!("{address}:{PORT}") };
    let mut found = tokio::net::lookup_host(with_port)
        .await
        .map_err(|err| AskFault::Unreachable(format!("unknown name: {err}")))?;
    found.next().ok_or_else(|| AskFault::Unreachable("the name has no address".to_owned()))
}

impl Wire {
    /// Sets one object.
    ///
    /// # Errors
    /// The device refuses, or does not answer.
    pub(crate) async fn set(&self, object: &Oid, number: i32) -> Result<(), AskFault> {
        let name = async_snmp::Oid::from_slice(object.arcs());
        let answer = Box::pin(self.client.set(&name, WireValue::Integer(number))).await;
        answer.map(|_| ()).map_err(|err| fault(&err))
    }
}

impl Ask for Wire {
    async fn single(&self, how: How, objects: &[Oid]) -> Result<Vec<Answer>, AskFault> {
        let names: Vec<_> = objects.iter().map(|oid| async_snmp::Oid::from_slice(oid.arcs())).collect();
        // Boxed: the library's futures are deep, and each caller would hold them whole.
        let answer = match how {
            How::Get => Box::pin(self.client.get_many(&names)).await,
            How::Next => Box::pin(self.client.get_next_many(&names)).await,
        };
        Ok(answers(answer.map_err(|err| fault(&err))?.varbinds))
    }

    async fn bulk(&self, objects: &[Oid], repetitions: u32) -> Result<Vec<Answer>, AskFault> {
        let names: Vec<_> = objects.iter().map(|oid| async_snmp::Oid::from_slice(oid.arcs())).collect();
        let answer = Box::pin(self.client.get_bulk(&names, 0, repetitions)).await;
        Ok(answers(answer.map_err(|err| fault(&err))?))
    }

    fn has_bulk(&self) -> bool {
        self.has_bulk
    }
}

fn answers(varbinds: Vec<VarBind>) -> Vec<Answer> {
    let answer = |bind: VarBind| Answer { oid: Oid::new(bind.oid.arcs()), value: value(bind.value) };
    varbinds.into_iter().map(answer).collect()
}

fn value(value: WireValue) -> Option<Value> {
    Some(match value {
        WireValue::Integer(number) => Value::Number(number.into()),
        WireValue::Counter32(number)
        | WireValue::Gauge32(number)
        | WireValue::UInteger32(number)
        | WireValue::TimeTicks(number) => Value::Number(number.into()),
        WireValue::Counter64(number) => Value::Number(number.into()),
        WireValue::OctetString(bytes) | WireValue::Opaque(bytes) | WireValue::Nsap(bytes) => {
            Value::Bytes(bytes.to_vec())
        }
        WireValue::IpAddress(bytes) => Value::Bytes(bytes.to_vec()),
        WireValue::ObjectIdentifier(oid) => Value::Name(Oid::new(oid.arcs())),
        _ => return None,
    })
}

fn fault(err: &Error) -> AskFault {
    match err.exchange_source() {
        Error::Timeout { .. } | Error::ConstructionTimeout { .. } => AskFault::Silent,
        Error::Snmp { status, index, .. } => AskFault::Object {
            index: usize::try_from(*index).unwrap_or(0),
            status: match status {
                ErrorStatus::NoSuchName => ObjectStatus::None,
                ErrorStatus::TooBig => ObjectStatus::TooBig,
                // RFC 3416 §4.2.1: said of a whole request that the user may not make.
                ErrorStatus::AuthorizationError => return AskFault::Refused(status.to_string()),
                other => ObjectStatus::Other(other.to_string()),
            },
        },
        Error::Report { status, .. } => AskFault::Refused(status.to_string()),
        Error::Auth { .. } => AskFault::Refused("its answer is not authentic: wrong password".to_owned()),
        Error::Network { source, .. } => AskFault::Unreachable(source.to_string()),
        Error::Decode(_) | Error::MalformedResponse { .. } | Error::ResponseShape { .. } => {
            AskFault::Garbage(err.to_string())
        }
        _ => AskFault::Local(err.to_string()),
    }
}

fn local(err: impl std::fmt::Display) -> AskFault {
    AskFault::Local(err.to_string())
}

fn auth_protocol(auth: Auth) -> AuthProtocol {
    match auth {
        Auth::Md5 => AuthProtocol::Md5,
        Auth::Sha1 => AuthProtocol::Sha1,
        Auth::Sha224 => AuthProtocol::Sha224,
        Auth::Sha256 => AuthProtocol::Sha256,
        Auth::Sha384 => AuthProtocol::Sha384,
        Auth::Sha512 => AuthProtocol::Sha512,
    }
}

/// Of the two ways to lengthen a key for AES-192 and -256 that of Cisco, which most makers took.
fn privacy_protocol(privacy: Privacy) -> PrivProtocol {
    match privacy {
        Privacy::Des => PrivProtocol::Des,
        Privacy::Aes128 => PrivProtocol::Aes128,
        Privacy::Aes192 => PrivProtocol::Aes192Reeder,
        Privacy::Aes256 => PrivProtocol::Aes256Reeder,
    }
}
