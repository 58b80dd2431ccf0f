//! Places under the limits on connections: how many there are in all, and of one address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use parking_lot::Mutex;
use tidings_live::Guard;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The limits, and what is taken.
#[derive(Debug)]
pub(super) struct Places {
    all: Arc<Semaphore>,
    of_one: Option<Arc<PerAddress>>,
}

/// A place that is not given to a connection yet.
#[derive(Debug)]
pub(super) struct Free(#[expect(dead_code, reason = "it is kept only to be dropped")] Option<OwnedSemaphorePermit>);

impl Places {
    /// `most` connections in all, and `per_ip` of one address; 0 sets no limit to the latter.
    pub(super) fn new(most: usize, per_ip: u32) -> Self {
        let of_one = (per_ip > 0).then(|| Arc::new(PerAddress { most: per_ip, taken: Mutex::default() }));
        Self { all: Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS))), of_one }
    }

    /// Waits for a place.
    pub(super) async fn free(&self) -> Free {
        // The semaphore is never closed, so this waits for a place and nothing else.
        Free(Arc::clone(&self.all).acquire_owned().await.ok())
    }

    /// Gives the place to a connection until it ends. With an address, that must not have all that one may have: then there
    /// is `None`, and the place is free again.
    pub(super) fn take(&self, place: Free, counted: Option<IpAddr>) -> Option<Guard> {
        match self.of_one.as_ref().zip(counted) {
            Some((of_one, address)) => of_one.take(address).map(|of_one| Guard::new((of_one, place))),
            None => Some(Guard::new(place)),
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

/// One customer of an IPv6 network has at least 64 bits of addresses to choose from (RFC 6177 § 2): they count as one.
fn network_of(address: IpAddr) -> IpAddr {
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

    #[tokio::test]
    async fn an_address_has_so_many_and_no_more() {
        let places = Places::new(10, 2);
        let one = places.take(places.free().await, Some(ip("10.0.0.1"))).unwrap();
        let _other = places.take(places.free().await, Some(ip("::ffff:10.0.0.1"))).unwrap();
        assert!(places.take(places.free().await, Some(ip("10.0.0.1"))).is_none());
        assert_eq!(places.all.available_permits(), 8, "a refused connection keeps no place");
        assert!(places.take(places.free().await, Some(ip("10.0.0.2"))).is_some());
        assert!(places.take(places.free().await, None).is_some());
        drop(one);
        assert!(places.take(places.free().await, Some(ip("10.0.0.1"))).is_some());
    }

    #[tokio::test]
    async fn what_has_ended_leaves_nothing_behind() {
        let places = Places::new(10, 1);
        drop(places.take(places.free().await, Some(ip("10.0.0.1"))));
        assert!(places.of_one.as_ref().unwrap().taken.lock().is_empty());
        assert_eq!(places.all.available_permits(), 10);
    }

    #[tokio::test]
    async fn the_addresses_of_one_ipv6_network_count_as_one() {
        let places = Places::new(10, 1);
        let _one = places.take(places.free().await, Some(ip("2001:db8::1"))).unwrap();
        assert!(places.take(places.free().await, Some(ip("2001:db8::ffff:1"))).is_none());
        assert!(places.take(places.free().await, Some(ip("2001:db8:0:1::1"))).is_some());
    }
}
