//! What a Dockerfile would make the engine itself do: fetch base images, fetch what `ADD` names, unpack archives.
//!
//! `RUN` steps run in a cgroup and behind a packet filter; `ADD` and `FROM` are carried out by the engine, as root, from the
//! host's own network and without a limit. So what they may ask for is decided here, before the engine sees any of it.
//!
//! Guarantees: no address and no variable reaches `ADD`, also not through the `ONBUILD` of a base image; every base image is
//! named plainly, so that the caller can look at it first. Where engines of different age read a text differently, what any of
//! them would do counts. Does not: check anything else, execute anything, read here-documents (our builder has none).

use std::collections::{BTreeMap, BTreeSet};

/// Most instructions of one Dockerfile: each is a layer, and engines give up at 127 of them.
const MAX_INSTRUCTIONS: usize = 1_000;
/// What a source of `ADD` cannot hold: with these, and only with these, it can become an address.
const NOT_IN_ADD: [char; 4] = [':', '$', '\\', '`'];

/// What the engine itself would have to do for a Dockerfile.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Asks {
    /// Images that stages are built upon.
    pub(super) bases: BTreeSet<String>,
    /// Images that files are copied from.
    pub(super) copied: BTreeSet<String>,
    /// What `ADD` takes from the context.
    pub(super) added: Vec<String>,
}

/// Reads a Dockerfile; an error is for its author.
pub(super) fn read(text: &str, build_args: &BTreeMap<String, String>) -> Result<Asks, String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let escape = escape_of(text);
    let mut asks = Asks::default();
    for (indented_comments, doubled_continues) in [(true, true), (true, false), (false, true), (false, false)] {
        let reading = Reading { escape, indented_comments, doubled_continues };
        let mut one = Stages { build_args, args: BTreeMap::new(), names: BTreeSet::new(), count: 0 };
        let instructions = reading.instructions(text);
        if instructions.len() > MAX_INSTRUCTIONS {
            return Err(format!("the Dockerfile has {} instructions, at most {MAX_INSTRUCTIONS} are possible", instructions.len()));
        }
        for instruction in instructions {
            one.take(&instruction, &mut asks)?;
        }
    }
    Ok(asks)
}

/// What a base image's own `ONBUILD` instruction asks for.
pub(super) fn trigger(instruction: &str, asks: &mut Asks) -> Result<(), String> {
    match split(instruction) {
        (keyword, rest) if keyword == "ADD" => add(rest, asks),
        _ => Ok(()),
    }
}

/// `# escape=...` among the first lines, as long as these are directives.
fn escape_of(text: &str) -> char {
    for line in text.lines() {
        let Some((name, value)) = line.trim().strip_prefix('#').and_then(|rest| rest.split_once('=')) else { break };
        if name.trim().eq_ignore_ascii_case("escape") && value.trim() == "`" {
            return '`';
        }
    }
    '\\'
}

/// One way in which engines join lines.
struct Reading {
    escape: char,
    /// A comment in the middle of an instruction may be indented.
    indented_comments: bool,
    /// A line that ends with two escapes goes on.
    doubled_continues: bool,
}

impl Reading {
    fn instructions(&self, text: &str) -> Vec<String> {
        let mut found = Vec::new();
        let mut open: Option<String> = None;
        for line in text.split('\n') {
            let line = line.strip_suffix('\r').unwrap_or(line);
            let trimmed = line.trim_start();
            let comment = if open.is_some() && !self.indented_comments { line.starts_with('#') } else { trimmed.starts_with('#') };
            if comment || trimmed.is_empty() {
                continue;
            }
            let (content, goes_on) = self.continued(if open.is_some() { line } else { trimmed });
            let mut whole = open.take().unwrap_or_default();
            whole.push_str(content);
            if goes_on {
                open = Some(whole);
            } else {
                found.push(whole);
            }
        }
        found.extend(open);
        found
    }

    fn continued<'a>(&self, line: &'a str) -> (&'a str, bool) {
        match line.trim_end_matches([' ', '\t']).strip_suffix(self.escape) {
            Some(content) if self.doubled_continues || !content.ends_with(self.escape) => (content, true),
            _ => (line, false),
        }
    }
}

/// The keyword in capitals, and the rest.
fn split(instruction: &str) -> (String, &str) {
    let instruction = instruction.trim();
    let (keyword, rest) = instruction.split_once(char::is_whitespace).unwrap_or((instruction, ""));
    (keyword.to_ascii_uppercase(), rest.trim())
}

/// Without the flags at the beginning, and these.
fn flags(rest: &str) -> (Vec<&str>, &str) {
    let (mut flags, mut rest) = (Vec::new(), rest.trim_start());
    while rest.starts_with("--") {
        let (flag, after) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        flags.push(flag);
        rest = after.trim_start();
    }
    (flags, rest)
}

/// The stages of one reading.
struct Stages<'a> {
    build_args: &'a BTreeMap<String, String>,
    /// Variables that stand before the first stage.
    args: BTreeMap<String, Option<String>>,
    /// What stages are called, in lower case.
    names: BTreeSet<String>,
    count: usize,
}

impl Stages<'_> {
    fn take(&mut self, instruction: &str, asks: &mut Asks) -> Result<(), String> {
        let (keyword, rest) = split(instruction);
        if matches!(keyword.as_str(), "RUN" | "COPY" | "ADD") && rest.split_whitespace().any(is_here_document) {
            return Err(format!("{keyword} has a here-document (<<), which is not possible here: put the text into a file"));
        }
        match keyword.as_str() {
            "FROM" => self.from(rest, asks),
            "ARG" if self.count == 0 => {
                for word in rest.split_whitespace() {
                    let (name, value) = word.split_once('=').map_or((word, None), |(name, value)| (name, Some(unquoted(value).to_owned())));
                    self.args.insert(name.to_owned(), value);
                }
                Ok(())
            }
            "COPY" => {
                let from = flags(rest).0.into_iter().find_map(|flag| flag.strip_prefix("--from="));
                if let Some(image) = from.filter(|name| !self.is_stage(name)) {
                    asks.copied.insert(plain_image("COPY --from", image)?);
                }
                Ok(())
            }
            "ADD" => add(rest, asks),
            _ => Ok(()),
        }
    }

    fn is_stage(&self, name: &str) -> bool {
        self.names.contains(&name.to_lowercase()) || name.parse::<usize>().is_ok_and(|number| number < self.count)
    }

    fn from(&mut self, rest: &str, asks: &mut Asks) -> Result<(), String> {
        let words: Vec<&str> = flags(rest).1.split_whitespace().collect();
        let (image, name) = match words.as_slice() {
            [image] => (image, None),
            [image, word, name] if word.eq_ignore_ascii_case("as") => (image, Some(name)),
            _ => return Err(format!("FROM takes one image, and a name after AS: FROM {rest}")),
        };
        let image = self.value(image)?;
        if image != "scratch" && !self.names.contains(&image.to_lowercase()) {
            asks.bases.insert(plain_image("FROM", &image)?);
        }
        self.count += 1;
        self.names.extend(name.map(|name| name.to_lowercase()));
        Ok(())
    }

    /// An image's name with its variables replaced. Only forms are known in which engines cannot differ.
    fn value(&self, text: &str) -> Result<String, String> {
        let mut out = String::new();
        let mut rest = unquoted(text);
        while let Some((before, after)) = rest.split_once('$') {
            out.push_str(before);
            let (variable, default, more) = match after.strip_prefix('{').map(|inner| inner.split_once('}')) {
                Some(Some((inside, more))) => match inside.split_once(":-") {
                    Some((name, default)) => (name, Some(default), more),
                    None => (inside, None, more),
                },
                Some(None) => return Err(format!("FROM {text}: a brace is not closed")),
                None => {
                    let end = after.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(after.len());
                    let (name, more) = after.split_at(end);
                    (name, None, more)
                }
            };
            if variable.is_empty() || !variable.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
                return Err(format!("FROM {text}: only $NAME, ${{NAME}} and ${{NAME:-default}} are possible here"));
            }
            let declared = self.args.get(variable).ok_or_else(|| format!("FROM {text}: no ARG before it names {variable}"))?;
            let value = self.build_args.get(variable).or(declared.as_ref()).map(String::as_str).filter(|value| !value.is_empty());
            out.push_str(value.or(default).unwrap_or_default());
            rest = more;
        }
        out.push_str(rest);
        Ok(out)
    }
}

/// A word that begins a here-document for engines that know these.
fn is_here_document(word: &str) -> bool {
    let after = word.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix("<<");
    after.is_some_and(|after| !after.contains('<'))
}

fn unquoted(text: &str) -> &str {
    let inner = |quote: char| text.strip_prefix(quote).and_then(|text| text.strip_suffix(quote));
    inner('"').or_else(|| inner('\'')).unwrap_or(text)
}

/// A name without anything that would still be replaced.
fn plain_image(what: &str, image: &str) -> Result<String, String> {
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'/' | b':' | b'@');
    if !image.is_empty() && image.bytes().all(legal) {
        return Ok(image.to_owned());
    }
    Err(format!("{what} {image}: this is not the name of an image"))
}

fn add(rest: &str, asks: &mut Asks) -> Result<(), String> {
    let (_, paths) = flags(rest);
    if let Some(bad) = paths.chars().find(|c| NOT_IN_ADD.contains(c)) {
        let instead = "fetch it in a RUN step, which has the job's own network, or use COPY for files of the folder";
        return Err(format!(
            "ADD {paths}: `{bad}` is not possible here, since an address would be fetched from the provider's network; {instead}"
        ));
    }
    let list = paths.trim().strip_prefix('[').and_then(|list| list.strip_suffix(']'));
    let mut words: Vec<String> = match list {
        Some(list) => list.split(',').map(|word| word.trim().replace(['"', '\''], "")).collect(),
        None => paths.split_whitespace().map(|word| word.replace(['"', '\''], "")).collect(),
    };
    // The last is where it goes.
    words.pop();
    asks.added.extend(words);
    Ok(())
}

/// Whether a source of `ADD` may be this file of the context. `links`: paths that lead elsewhere.
pub(super) fn may_name(source: &str, file: &str, links: &[String]) -> bool {
    if source.contains(['*', '?', '[']) || source.split('/').any(|part| part == "..") {
        return true;
    }
    let plain = source.split('/').filter(|part| !part.is_empty() && *part != ".").collect::<Vec<_>>().join("/");
    let through = |link: &String| plain == *link || plain.strip_prefix(link.as_str()).is_some_and(|rest| rest.starts_with('/'));
    plain == file || links.iter().any(through)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asks(text: &str) -> Result<Asks, String> {
        read(text, &BTreeMap::from([("V".to_owned(), "2".to_owned())]))
    }

    fn bases(text: &str) -> Vec<String> {
        asks(text).unwrap_or_else(|why| panic!("{text}: {why}")).bases.into_iter().collect()
    }

    #[test]
    fn base_images_are_named_with_their_variables_replaced() {
        assert_eq!(bases("FROM a:1\nRUN true"), ["a:1"]);
        assert_eq!(
            bases("\u{feff}# syntax=x\n  from --platform=linux/amd64 b/c@sha256:00 as Build\nFROM build\nFROM scratch"),
            ["b/c@sha256:00"]
        );
        assert_eq!(
            bases("ARG V=1\nARG W=\"3\"\nFROM a:$V\nFROM b:${W}\nFROM c:${V:-9}-x\nFROM d:${U:-5}".replace("FROM d", "# FROM d").as_str()),
            ["a:2", "b:3", "c:2-x"]
        );
        assert_eq!(bases("ARG U\nFROM d:${U:-5}"), ["d:5"]);
        assert_eq!(bases("FROM a\nRUN sql 'SELECT \\\n  FROM users'"), ["a"]);
        assert_eq!(asks("FROM a\nCOPY --from=b:1 x y\nCOPY --from=0 x y\n").unwrap().copied, BTreeSet::from(["b:1".to_owned()]));
        for bad in
            ["FROM $X", "ARG X\nFROM ${X#y}", "FROM a b", "FROM", "ARG A\nFROM ${A", "FROM a\nCOPY --from=$X a b", "ARG A=$B\nFROM $A"]
        {
            assert!(asks(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn no_address_reaches_add_however_it_is_written() {
        for bad in [
            "FROM a\nADD http://127.0.0.1/x /y",
            "FROM a\nadd --chown=a:b https://h/x /y",
            "FROM a\nADD \\\n  # comment\n  http://h/x /y",
            "FROM a\nADD [\"http\\u003a//h/x\", \"/y\"]",
            "FROM a\nADD http:\"//h/x\" /y",
            "FROM a\nARG U=http://h/x\nADD $U /y",
            "FROM a\nENV U=http://h/x\nADD ${U} /y",
            "# escape=`\nFROM a\nADD `\nhttp://h/x /y",
            "# ESCAPE = `\nFROM a\nRUN x `\n y\nADD http://h/x /y",
            "FROM a\nADD git@h:x /y",
            // Comments and escapes that some engines read so and others so.
            "FROM a\nRUN x \\\n  # y\nADD http://h/x /y",
            "FROM a\nRUN x \\\\\nADD http://h/x /y",
            "FROM a\nRUN x \\\n\n\nADD http://h/x \\\n/y",
            "FROM a\r\nADD http://h/x /y\r\n",
            "FROM a\n\u{a0}ADD http://h/x /y",
        ] {
            let why = asks(bad).err();
            // What every engine reads as part of the step before is no instruction.
            if bad.contains("\\\n\n\n") {
                assert_eq!(why, None);
            } else {
                assert!(why.is_some_and(|why| why.contains("ADD") && why.contains("RUN step")), "{bad}");
            }
        }
        let mut found = Asks::default();
        assert!(trigger("ADD http://h/x /y", &mut found).is_err());
        trigger("COPY . /y", &mut found).unwrap();
        trigger("add a.tar.gz /y", &mut found).unwrap();
        assert_eq!(found.added, ["a.tar.gz"]);
    }

    #[test]
    fn what_add_takes_is_told() {
        let found = asks("FROM a\nADD --chown=u:g a.tar ./b/c /d/\nADD [\"e f\", \"g\"]\n").unwrap();
        assert_eq!(found.added[..3], ["a.tar", "./b/c", "e f"]);
        assert!(may_name("./b//c", "b/c", &[]) && may_name("/b/c", "b/c", &[]) && may_name("*.tar", "x.tar", &[]));
        assert!(may_name("l", "b/c", &["l".into()]) && may_name("l/x", "b/c", &["l".into()]) && may_name("a/../b", "b", &[]));
        assert!(!may_name("b", "b/c", &["lx".into()]));
    }

    #[test]
    fn here_documents_are_refused_by_name() {
        assert!(asks("FROM a\nRUN <<\\\nfoo\n\\\nADD x /y").is_err());
        assert!(asks("FROM a\nRUN cat 3<<-EOF").unwrap_err().contains("here-document"));
        assert!(asks("FROM a\nRUN echo $((1<<2)) <<< x").is_ok());
    }
}
