//! The simulated world: a manager and many agents around a post office that loses, delays, doubles, alters
//! and bounces mail, with power cuts between any two effects and clocks that jump. One seed gives one run.
//!
//! The cores that are simulated are the ones that ship. What is modelled here: disks, scripts, mailboxes,
//! relays, an attacker who owns the relay. What is not: sealing, which `shared` tests byte by byte; here a
//! mail says who signed it and for whom it is, and an altered one cannot be read.
//!
//! Beside it, for tests of what ships: [`station`], a device that answers by SNMP, [`flash`], one that takes firmware, [`takers`],
//! programs of others that do, [`lab`], real mail servers, and [`programs`], manager and agents as processes, joined by a
//! [`relay`] that counts, if a test wants it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "the simulator is test code: a broken expectation must stop it"
)]

mod behind;
mod beside;
mod boxes;
mod dice;
pub mod flash;
mod flashed;
mod headquarters;
pub mod lab;
mod persona;
mod planned;
mod post;
pub mod programs;
pub mod relay;
pub mod station;
pub mod takers;
mod world;

pub use boxes::Line;
pub use persona::Persona;
pub use post::Habits;
pub use world::{Figures, Flashings, World};
