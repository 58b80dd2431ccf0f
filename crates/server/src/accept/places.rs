//! Places under the limits on connections: how many there are in all, and of one address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use parking_lot::Mutex;
use tidings_courier::egress::is_public;
use tidings_live::Guard;
use tokio::sync::Semaphore;

/// The limits, and what is taken.
#[derive(Debug)]
pub(super) struct Places {
    all: Arc<Semaphore>,
    of_one: Option<Arc<PerAddress>>,
    /// The limit of an address was not set, so it is for public addresses only.
    is_default: bool,
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// As many connections are there as may be.
    Server,
    /// The address has as many as one may have.
    Address {
        /// That is a limit which nobody has set: what is a proxy's is not bound by it.
        is_default: bool,
    },
}

impl Places {
    /// `most` connections in all, and `per_ip` of one address; 0 sets no limit to the latter, and `None` one of half of
    /// all for public addresses.
    pub(super) fn new(most: usize, per_ip: Option<u32>) -> Self {
        let half = u32::try_from(most / 2).unwrap_or(u32::MAX).max(1);
        let limit = per_ip.unwrap_or(half);
        let of_one = (limit > 0).then(|| Arc::new(PerAddress { most: limit, taken: Mutex::default() }));
        let all = Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS)));
        Self { all, of_one, is_default: per_ip.is_none() }
    }

    /// A place for a connection until it ends. With an address, that must not have all that one may have.
    ///
    /// # Errors
    /// [`Full`].
    pub(super) fn take(&self, counted: Option<IpAddr>) -> Result<Guard, Full> {
        let place = Arc::clone(&self.all).try_acquire_owned().map_err(|_| Full::Server)?;
        let counted = counted.filter(|address| !self.is_default || is_public(*address));
        match self.of_one.as_ref().zip(counted) {
            Some((of_one, address)) => {
                let of_one = of_one.take(address).ok_or(Full::Address { is_default: self.is_default })?;
                Ok(Guard::new((of_one, place)))
            }
            None => Ok(Guard::new(place)),
        }
    }
}

/// How many connections each address has.
#[derive(Debug)]
struct PerAddress {
    most: u32,
    taken: Mutex<HashMap<IpAddr, u32>>,
}

impl PerAddress {
    fn take(self: &Arc<Self>, address: IpAddr) -> Option<OfOne> {
        let address = network_of(address);
        let mut taken = self.taken.lock();
        let count = taken.entry(address).or_default();
        // An entry that was just made has 0, which is below every limit.
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(OfOne { all: Arc::clone(self), address })
    }
}

/// One of the connections of an address.
#[derive(Debug)]
struct OfOne {
    all: Arc<PerAddress>,
    address: IpAddr,
}

impl Drop for OfOne {
    fn drop(&mut self) {
        let mut taken = self.all.taken.lock();
        if let Some(count) = taken.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.address);
            }
        }
    }
}

/// What counts as one address. One customer of an IPv6 network has at least 64 bits of addresses to choose from (RFC
/// 6177 § 2): they count as one.
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

    const SERVER: Option<Full> = Some(Full::Server);
    const SET: Option<Full> = Some(Full::Address { is_default: false });
    const DEFAULT: Option<Full> = Some(Full::Address { is_default: true });

    #[test]
    fn an_address_has_its_limit_and_gets_places_back() {
        let places = Places::new(4, Some(2));
        let one = places.take(Some(ip("10.0.0.1"))).unwrap();
        let _two = places.take(Some(ip("::ffff:10.0.0.1"))).unwrap();
        assert_eq!(places.take(Some(ip("10.0.0.1"))).err(), SET);
        let _other = places.take(Some(ip("10.0.0.2"))).unwrap();
        let uncounted = places.take(None).unwrap();
        assert_eq!(places.take(None).err(), SERVER);
        drop(uncounted);
        assert_eq!(places.take(Some(ip("10.0.0.1"))).err(), SET);
        drop(one);
        assert!(places.take(Some(ip("10.0.0.1"))).is_ok());
    }

    // covers: G063
    #[test]
    fn without_a_limit_of_its_own_a_public_address_has_half_and_others_all() {
        let places = Places::new(4, None);
        let two: Vec<_> = (0..2).map(|_| places.take(Some(ip("8.8.8.8"))).unwrap()).collect();
        assert_eq!(places.take(Some(ip("8.8.8.8"))).err(), DEFAULT);
        assert!(places.take(Some(ip("8.8.4.4"))).is_ok());
        drop(two);
        for private in ["127.0.0.1", "192.168.0.7", "fd00::7"] {
            let four: Vec<_> = (0..4).map(|_| places.take(Some(ip(private))).unwrap()).collect();
            assert_eq!(places.take(Some(ip(private))).err(), SERVER, "{private}");
            drop(four);
        }
        let places = Places::new(4, Some(0));
        let _four: Vec<_> = (0..4).map(|_| places.take(Some(ip("8.8.8.8"))).unwrap()).collect();
        assert_eq!(places.take(Some(ip("8.8.8.8"))).err(), SERVER);
    }

    #[test]
    fn what_has_ended_leaves_nothing_behind() {
        let places = Places::new(10, Some(1));
        drop(places.take(Some(ip("10.0.0.1"))));
        assert!(places.of_one.as_ref().unwrap().taken.lock().is_empty());
        assert_eq!(places.all.available_permits(), 10);
    }

    #[test]
    fn the_addresses_of_one_ipv6_network_count_as_one() {
        let places = Places::new(10, Some(1));
        let _one = places.take(Some(ip("2001:db8::1"))).unwrap();
        assert_eq!(places.take(Some(ip("2001:db8::ffff:1"))).err(), SET);
        assert!(places.take(Some(ip("2001:db8:0:1::1"))).is_ok());
    }
}
