//! The ledger on real SQLite files and a real PostgreSQL server.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

/// Makes each of these a test on either store; those after `racing:` on several threads.
macro_rules! on_both_stores {
    ($($name:ident),* $(; racing: $($racing:ident),*)?) => {
        on_both_stores!(@ sqlite, Sqlite, ($($name),*), ($($($racing),*)?));
        on_both_stores!(@ postgres, Postgres, ($($name),*), ($($($racing),*)?));
    };
    (@ $module:ident, $store:ident, ($($name:ident),*), ($($racing:ident),*)) => {
        mod $module {
            $(
                #[tokio::test]
                async fn $name() {
                    super::$name($crate::world::Backend::$store).await;
                }
            )*
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
                async fn $racing() {
                    super::$racing($crate::world::Backend::$store).await;
                }
            )*
        }
    };
}

mod backing_up;
mod beside;
mod budget;
mod buying;
mod chain;
mod checking;
mod compacting;
mod delegating;
mod fixtures;
mod grouped;
mod moving;
mod network;
mod opening;
mod receiving;
mod restoring;
mod serving;
mod settling;
mod sharing;
mod simulated;
mod surveying;
mod surviving;
mod towers;
mod world;
mod writing;
