//! Fault points: places where a test can make the code panic.
//!
//! They exist only in builds with debug assertions; in a release build they compile to nothing. They are global to the
//! process, because the tests that use them run a server in a process of its own.

use std::fmt::Display;

/// Panics if a test has armed the point `name`.
#[inline]
pub fn point(name: &str) {
    point_of(name, &"");
}

/// Panics if a test has armed the point `name` for all ids or for this id.
#[inline]
pub fn point_of(name: &str, id: &impl Display) {
    #[cfg(debug_assertions)]
    armed::check(name, id);
    #[cfg(not(debug_assertions))]
    let _ = (name, id);
}

#[cfg(debug_assertions)]
pub use armed::arm;

#[cfg(debug_assertions)]
mod armed {
    use std::fmt::Display;
    use std::panic::panic_any;
    use std::sync::atomic::{AtomicBool, Ordering};

    use parking_lot::RwLock;

    static ANY: AtomicBool = AtomicBool::new(false);
    static ARMED: RwLock<Vec<String>> = RwLock::new(Vec::new());

    /// Arms these points and disarms all others. A point is a line `name`, or `name id` for one id only.
    pub fn arm(lines: &str) {
        let points: Vec<_> = lines.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect();
        ANY.store(!points.is_empty(), Ordering::Release);
        *ARMED.write() = points;
    }

    pub(super) fn check(name: &str, id: &impl Display) {
        if !ANY.load(Ordering::Acquire) {
            return;
        }
        let id = id.to_string();
        let is_armed = ARMED.read().iter().any(|point| match point.split_once(' ') {
            Some((armed, wanted)) => armed == name && wanted == id,
            None => point == name,
        });
        if is_armed {
            panic_any(format!("the fault point {name} is armed"));
        }
    }
}
