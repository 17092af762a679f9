//! Which requests are under way: each with one stream, or with one bill that is late.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

use lloom_receipts::RequestHash;

/// All of them.
#[derive(Clone, Debug, Default)]
pub(super) struct UnderWay(Arc<Mutex<HashSet<RequestHash>>>);

/// While this lives, nobody else begins this request.
#[derive(Debug)]
pub(super) struct Begun {
    request: RequestHash,
    all: UnderWay,
}

impl UnderWay {
    /// Begins a request, unless it is under way.
    pub(super) fn begin(&self, request: RequestHash) -> Option<Begun> {
        self.with(|all| all.insert(request)).then(|| Begun {
            request,
            all: self.clone(),
        })
    }

    fn with<T>(&self, change: impl FnOnce(&mut HashSet<RequestHash>) -> T) -> T {
        // Every change is one insertion or removal: a panic elsewhere leaves nothing half done.
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        self.all.with(|all| all.remove(&self.request));
    }
}

#[cfg(test)]
mod tests {
    use alloy::primitives::B256;

    use super::*;

    #[test]
    fn a_request_is_begun_again_only_when_it_is_over() {
        let all = UnderWay::default();
        let [one, other] = [1, 2].map(|byte| RequestHash::new(B256::repeat_byte(byte)));
        let begun = all.begin(one).unwrap();
        assert!(all.begin(one).is_none());
        assert!(all.begin(other).is_some());
        drop(begun);
        assert!(all.begin(one).is_some());
    }
}
