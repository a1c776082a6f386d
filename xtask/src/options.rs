//! Options of measurements: `--name VALUE`, each known or refused before anything is built.

use std::str::FromStr;

use crate::Result;

/// What stands on the command line behind a measurement's name.
#[derive(Debug)]
pub(crate) struct Options {
    given: Vec<(String, String)>,
}

impl Options {
    /// Reads pairs of a known name and a value.
    pub(crate) fn read(args: &[String], known: &[&str]) -> Result<Self> {
        let mut given = Vec::new();
        for pair in args.chunks(2) {
            if !known.contains(&pair[0].as_str()) {
                return Err(format!("{}: known are {}", pair[0], known.join(", ")));
            }
            let [name, value] = pair else { return Err(format!("{} wants a value", pair[0])) };
            given.push((name.clone(), value.clone()));
        }
        Ok(Self { given })
    }

    /// The value of an option (the last one, if it is given twice), or what it is by default.
    pub(crate) fn get<T: FromStr>(&self, name: &str, default: T) -> Result<T> {
        let Some((_, value)) = self.given.iter().rfind(|(given, _)| given == name) else {
            return Ok(default);
        };
        value.parse().map_err(|_| format!("{name} {value}: not a value for it"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Options> {
        let words: Vec<_> = text.split_whitespace().map(str::to_owned).collect();
        Options::read(&words, &["--rounds", "--dir"])
    }

    #[test]
    fn known_ones_are_read() {
        let options = read("--rounds 3 --dir a --rounds 5").expect("sound");
        assert_eq!(options.get("--rounds", 1), Ok(5));
        assert_eq!(options.get("--dir", String::new()), Ok("a".to_owned()));
        assert_eq!(read("").and_then(|options| options.get("--rounds", 7)), Ok(7));
    }

    #[test]
    fn others_are_refused() {
        for wrong in ["--help", "--round 3", "3", "--rounds", "--rounds 3 --dir"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        assert!(read("--rounds many").and_then(|options| options.get("--rounds", 1)).is_err());
    }
}
