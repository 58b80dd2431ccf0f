//! Limits the number of open connections: in all, and per client address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use parking_lot::Mutex;
use tidings_courier::egress::is_public;
use tidings_live::Guard;
use tokio::sync::Semaphore;

/// The limits, and the connections that count against them.
#[derive(Debug)]
pub(super) struct ConnectionLimiter {
    all: Arc<Semaphore>,
    /// `None` without a limit per address.
    per_address: Option<Arc<PerAddress>>,
    /// The config sets no limit per address, so the default one holds, for public addresses only.
    is_default: bool,
}

/// Which limit refuses a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LimitReached {
    /// The one on all connections.
    Server,
    /// The one on the connections of an address.
    Address {
        /// It is the default limit, not one from the config. A proxy's connection is exempt from it.
        is_default: bool,
    },
}

impl ConnectionLimiter {
    /// Allows `most` connections in all and `per_ip` per address. `per_ip` = 0 sets no limit; `None` is the default:
    /// half of `most`, for public addresses only.
    pub(super) fn new(most: usize, per_ip: Option<u32>) -> Self {
        let half = u32::try_from(most / 2).unwrap_or(u32::MAX).max(1);
        let limit = per_ip.unwrap_or(half);
        let per_address = (limit > 0).then(|| Arc::new(PerAddress { most: limit, open: Mutex::default() }));
        let all = Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS)));
        Self { all, per_address, is_default: per_ip.is_none() }
    }

    /// Counts a connection until its guard is dropped. With an address, it counts against the limit per address too.
    ///
    /// # Errors
    /// The limit that is reached.
    pub(super) fn acquire(&self, counted: Option<IpAddr>) -> Result<Guard, LimitReached> {
        let permit = Arc::clone(&self.all).try_acquire_owned().map_err(|_| LimitReached::Server)?;
        let counted = counted.filter(|address| !self.is_default || is_public(*address));
        match self.per_address.as_ref().zip(counted) {
            Some((per_address, address)) => {
                let of_address =
                    per_address.acquire(address).ok_or(LimitReached::Address { is_default: self.is_default })?;
                Ok(Guard::new((of_address, permit)))
            }
            None => Ok(Guard::new(permit)),
        }
    }
}

/// How many connections each address has.
#[derive(Debug)]
struct PerAddress {
    most: u32,
    /// Addresses without a connection have no entry.
    open: Mutex<HashMap<IpAddr, u32>>,
}

impl PerAddress {
    fn acquire(self: &Arc<Self>, address: IpAddr) -> Option<AddressPermit> {
        let address = network_of(address);
        let mut open = self.open.lock();
        let count = open.entry(address).or_default();
        // A new entry counts 0, which is below every limit, so none is left behind by a refusal.
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(AddressPermit { all: Arc::clone(self), address })
    }
}

/// One connection of an address; dropped, it counts no more.
#[derive(Debug)]
struct AddressPermit {
    all: Arc<PerAddress>,
    address: IpAddr,
}

impl Drop for AddressPermit {
    fn drop(&mut self) {
        let mut open = self.all.open.lock();
        if let Some(count) = open.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.address);
            }
        }
    }
}

/// The key under which an address is counted. An IPv6 customer has at least 64 bits of addresses to choose from (RFC
/// 6177 § 2), so a /64 network counts as one address.
pub(super) fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX)).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    const SERVER: Option<LimitReached> = Some(LimitReached::Server);
    const SET: Option<LimitReached> = Some(LimitReached::Address { is_default: false });
    const DEFAULT: Option<LimitReached> = Some(LimitReached::Address { is_default: true });

    #[test]
    fn an_address_has_its_limit_and_gets_places_back() {
        let limiter = ConnectionLimiter::new(4, Some(2));
        let one = limiter.acquire(Some(ip("10.0.0.1"))).unwrap();
        let _two = limiter.acquire(Some(ip("::ffff:10.0.0.1"))).unwrap();
        assert_eq!(limiter.acquire(Some(ip("10.0.0.1"))).err(), SET);
        let _other = limiter.acquire(Some(ip("10.0.0.2"))).unwrap();
        let uncounted = limiter.acquire(None).unwrap();
        assert_eq!(limiter.acquire(None).err(), SERVER);
        drop(uncounted);
        assert_eq!(limiter.acquire(Some(ip("10.0.0.1"))).err(), SET);
        drop(one);
        assert!(limiter.acquire(Some(ip("10.0.0.1"))).is_ok());
    }

    // covers: G063
    #[test]
    fn without_a_limit_of_its_own_a_public_address_has_half_and_others_all() {
        let limiter = ConnectionLimiter::new(4, None);
        let two: Vec<_> = (0..2).map(|_| limiter.acquire(Some(ip("8.8.8.8"))).unwrap()).collect();
        assert_eq!(limiter.acquire(Some(ip("8.8.8.8"))).err(), DEFAULT);
        assert!(limiter.acquire(Some(ip("8.8.4.4"))).is_ok());
        drop(two);
        for private in ["127.0.0.1", "192.168.0.7", "fd00::7"] {
            let four: Vec<_> = (0..4).map(|_| limiter.acquire(Some(ip(private))).unwrap()).collect();
            assert_eq!(limiter.acquire(Some(ip(private))).err(), SERVER, "{private}");
            drop(four);
        }
        let limiter = ConnectionLimiter::new(4, Some(0));
        let _four: Vec<_> = (0..4).map(|_| limiter.acquire(Some(ip("8.8.8.8"))).unwrap()).collect();
        assert_eq!(limiter.acquire(Some(ip("8.8.8.8"))).err(), SERVER);
    }

    #[test]
    fn what_has_ended_leaves_nothing_behind() {
        let limiter = ConnectionLimiter::new(10, Some(1));
        drop(limiter.acquire(Some(ip("10.0.0.1"))));
        assert!(limiter.per_address.as_ref().unwrap().open.lock().is_empty());
        assert_eq!(limiter.all.available_permits(), 10);
    }

    #[test]
    fn the_addresses_of_one_ipv6_network_count_as_one() {
        let limiter = ConnectionLimiter::new(10, Some(1));
        let _one = limiter.acquire(Some(ip("2001:db8::1"))).unwrap();
        assert_eq!(limiter.acquire(Some(ip("2001:db8::ffff:1"))).err(), SET);
        assert!(limiter.acquire(Some(ip("2001:db8:0:1::1"))).is_ok());
    }
}
