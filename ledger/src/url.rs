//! Which store: a file of SQLite, or a database of PostgreSQL.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr as _,
    sync::Arc,
};

use sqlx::postgres::PgConnectOptions;

/// The witness file's name in a home.
const WITNESS: &str = "lloom.witness";

/// Names a store.
///
/// ```
/// # use std::path::Path;
/// use lloom_ledger::StoreUrl;
///
/// let home = Path::new("/var/lib/lloom");
/// assert_eq!(StoreUrl::parse("lloom.db", home)?.to_string(), "/var/lib/lloom/lloom.db");
/// assert_eq!(StoreUrl::parse("sqlite:///srv/lloom.db", home)?.to_string(), "/srv/lloom.db");
/// assert!(StoreUrl::parse("postgres://lloom@db.example/lloom", home)?.is_shared());
/// // Whoever reads the configuration, the arguments or the log would read it too.
/// assert!(StoreUrl::parse("postgres://lloom:secret@db.example/lloom", home).is_err());
/// # Ok::<_, lloom_ledger::StoreUrlError>(())
/// ```
#[derive(Clone, Debug)]
pub struct StoreUrl(pub(crate) Place);

#[derive(Clone, Debug)]
pub(crate) enum Place {
    Sqlite(PathBuf),
    Postgres(Arc<PostgresPlace>),
}

/// A database of PostgreSQL, and the file in this home that bears witness to what was committed to it.
#[derive(Clone)]
pub(crate) struct PostgresPlace {
    /// With the password, where the environment has one: never to be shown.
    pub(crate) options: PgConnectOptions,
    pub(crate) shown: String,
    pub(crate) witness: PathBuf,
}

impl StoreUrl {
    /// Reads `text`: `postgres://user@host/database`, `sqlite:///path`, or a path. Relative paths, and the file that
    /// bears witness to what was committed to PostgreSQL, lie in `home`.
    ///
    /// The password comes from `PGPASSWORD`, from the file `PGPASSFILE` names, or from `~/.pgpass`. A UNIX socket's
    /// directory goes where the host would be (`postgres:///lloom?host=/run/postgresql`). TLS is tried first unless
    /// `sslmode` says more; `sslmode=verify-full` is what an open network needs.
    ///
    /// # Errors
    /// When it is neither, or holds a password. The error repeats nothing of it.
    pub fn parse(text: &str, home: &Path) -> Result<Self, StoreUrlError> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return match text {
                "" => Err(StoreUrlError::Empty),
                path => Ok(Self(Place::Sqlite(home.join(path)))),
            };
        };
        match scheme {
            "sqlite" if rest.is_empty() => Err(StoreUrlError::Empty),
            "sqlite" => Ok(Self(Place::Sqlite(home.join(rest)))),
            "postgres" | "postgresql" => {
                let authority = rest.split(['/', '?']).next().unwrap_or_default();
                let user = authority.rsplit_once('@').map_or("", |(user, _)| user);
                let keys = rest.split_once('?').map_or("", |(_, query)| query);
                let says_password = |pair: &str| pair.to_ascii_lowercase().starts_with("pass");
                if user.contains(':') || keys.split('&').any(says_password) {
                    return Err(StoreUrlError::Password);
                }
                let options = PgConnectOptions::from_str(text).map_err(|_| StoreUrlError::Postgres)?;
                let place = PostgresPlace {
                    options,
                    shown: text.to_owned(),
                    witness: home.join(WITNESS),
                };
                Ok(Self(Place::Postgres(Arc::new(place))))
            }
            _ => Err(StoreUrlError::Scheme),
        }
    }

    /// The store in the file at `path`.
    pub fn file(path: &Path) -> Self {
        Self(Place::Sqlite(path.to_owned()))
    }

    /// The file, where it is one.
    pub fn path(&self) -> Option<&Path> {
        match &self.0 {
            Place::Sqlite(path) => Some(path),
            Place::Postgres(_) => None,
        }
    }

    /// Whether several processes may write to it at a time.
    pub const fn is_shared(&self) -> bool {
        matches!(self.0, Place::Postgres(_))
    }
}

impl fmt::Debug for PostgresPlace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("PostgresPlace")
            .field("shown", &self.shown)
            .field("witness", &self.witness)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Place::Sqlite(path) => path.display().fmt(formatter),
            Place::Postgres(place) => formatter.write_str(&place.shown),
        }
    }
}

impl From<&Path> for StoreUrl {
    fn from(path: &Path) -> Self {
        Self::file(path)
    }
}

impl From<&PathBuf> for StoreUrl {
    fn from(path: &PathBuf) -> Self {
        Self::file(path)
    }
}

impl From<&Self> for StoreUrl {
    fn from(url: &Self) -> Self {
        url.clone()
    }
}

/// Why a text names no store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreUrlError {
    /// Nothing is named.
    #[error("it names no file")]
    Empty,
    /// Its scheme is none of those known.
    #[error("a store is a path, sqlite://<path> or postgres://<user>@<host>/<database>")]
    Scheme,
    /// It is no URL that PostgreSQL's driver reads.
    #[error("it is no URL of the form postgres://<user>@<host>[:<port>]/<database>[?sslmode=verify-full]")]
    Postgres,
    /// A password stands in it.
    #[error("a password doesn't belong into a URL: put it into PGPASSWORD, or into a file that PGPASSFILE names")]
    Password,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_names_no_password() {
        let home = Path::new("/home");
        for text in [
            "postgres://lloom:s3cret@db/lloom",
            "postgresql://lloom:s3cret@db:5432/lloom?sslmode=require",
            "postgres://lloom@db/lloom?sslmode=require&password=s3cret",
            "postgres://lloom@db/lloom?Passwd=s3cret",
        ] {
            let refused = StoreUrl::parse(text, home).unwrap_err();
            assert_eq!(refused, StoreUrlError::Password);
            assert!(!refused.to_string().contains("s3cret"));
        }
        let url = StoreUrl::parse("postgres://lloom@db/lloom", home).unwrap();
        let Place::Postgres(place) = url.0.clone() else {
            panic!("not PostgreSQL");
        };
        let options = place.options.clone().password("s3cret");
        let place = PostgresPlace {
            options,
            ..PostgresPlace::clone(&place)
        };
        let url = StoreUrl(Place::Postgres(Arc::new(place)));
        assert!(!format!("{url} {url:?}").contains("s3cret"), "{url:?}");
    }

    #[test]
    fn other_schemes_and_nothing_are_refused() {
        let home = Path::new("/home");
        for (text, error) in [
            ("", StoreUrlError::Empty),
            ("sqlite://", StoreUrlError::Empty),
            ("mysql://lloom@db/lloom", StoreUrlError::Scheme),
            ("postgres://lloom@db:port/lloom", StoreUrlError::Postgres),
        ] {
            assert_eq!(StoreUrl::parse(text, home).unwrap_err(), error, "{text}");
        }
    }
}
