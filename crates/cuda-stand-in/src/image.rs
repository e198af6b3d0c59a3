//! Reader of module images: PTX, or machine code in NVIDIA's ELF format.

/// A module image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// PTX version; `None` for machine code.
    pub version: Option<(u32, u32)>,
    /// Target generation: 10 × major + minor.
    pub target: u32,
    /// Its functions.
    pub entries: Vec<Entry>,
}

/// A kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Size of each parameter, in bytes.
    pub parameter_bytes: Vec<u32>,
}

/// Prefix of section names; the function's name follows.
const INFO: &str = ".nv.info.";
const CODE: &str = ".text.";
/// An attribute that describes a parameter.
const PARAMETER: u8 = 0x17;
/// An attribute format with a size and its own bytes.
const SIZED: u8 = 0x04;
/// Size of the ELF header, and of a section header.
const HEADER: usize = 64;

impl Image {
    /// Reads PTX.
    ///
    /// # Errors
    /// Says what is missing.
    pub fn from_ptx(text: &str) -> Result<Image, String> {
        let text = without_comments(text);
        let directive = |name: &str| {
            let rest = text.split_once(name)?.1;
            rest.split_whitespace().next()
        };
        let version = (directive(".version"))
            .and_then(|version| version.split_once('.'))
            .and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)))
            .ok_or("no .version")?;
        let target = (directive(".target"))
            .and_then(|target| target.split(',').next()?.strip_prefix("sm_"))
            .and_then(|target| target.trim_end_matches(['a', 'f']).parse().ok())
            .ok_or("no .target")?;
        let mut entries = Vec::new();
        for rest in text.split(".entry").skip(1) {
            let name: String = (rest.trim_start().chars())
                .take_while(|character| character.is_alphanumeric() || "_$%".contains(*character))
                .collect();
            let head = rest.split('{').next().unwrap_or_default();
            let list = head.split_once('(').map_or("", |(_, list)| list);
            let list = list.rsplit_once(')').map_or("", |(list, _)| list);
            let parameter_bytes = (list.split(".param").skip(1))
                .map(|declaration| {
                    parameter_bytes(declaration)
                        .ok_or_else(|| format!("{name}: a parameter of unknown size"))
                })
                .collect::<Result<_, _>>()?;
            entries.push(Entry {
                name,
                parameter_bytes,
            });
        }
        Ok(Image {
            version: Some(version),
            target,
            entries,
        })
    }

    /// File length according to the ELF headers.
    pub fn elf_bytes(header: &[u8; HEADER]) -> u64 {
        let word = |at| u64::from_le_bytes(take(header, at).unwrap_or_default());
        let half = |at| u64::from(u16::from_le_bytes(take(header, at).unwrap_or_default()));
        let programs = word(0x20) + half(0x36) * half(0x38);
        let sections = word(0x28) + half(0x3a) * half(0x3c);
        programs.max(sections).max(HEADER as u64)
    }

    /// Reads machine code.
    ///
    /// # Errors
    /// Says what is missing.
    pub fn from_elf(bytes: &[u8]) -> Result<Image, String> {
        let cut = || "the file is cut short".to_owned();
        let half = |at| take(bytes, at).map(u16::from_le_bytes).ok_or_else(cut);
        let word = |at| take(bytes, at).map(u32::from_le_bytes).ok_or_else(cut);
        let long = |at| take(bytes, at).map(u64::from_le_bytes).ok_or_else(cut);
        let flags = word(0x30)?;
        // From ABI version 8 on, the second byte holds the generation.
        let target = match bytes.get(8) {
            Some(8..) => flags >> 8 & 0xff,
            _ => flags & 0xff,
        };
        let (table, size) = (long(0x28)? as usize, usize::from(half(0x3a)?));
        let count = usize::from(half(0x3c)?);
        let section = |index: usize| -> Result<(usize, &[u8]), String> {
            let header = index
                .checked_mul(size)
                .and_then(|offset| offset.checked_add(table))
                .filter(|header| take::<HEADER>(bytes, *header).is_some())
                .ok_or_else(cut)?;
            let (name, kind) = (word(header)? as usize, word(header + 4)?);
            let (offset, length) = (long(header + 0x18)? as usize, long(header + 0x20)? as usize);
            // `SHT_NOBITS`: a section without bytes in the file.
            let content = match kind {
                8 => Some(&[][..]),
                _ => (offset.checked_add(length)).and_then(|end| bytes.get(offset..end)),
            };
            Ok((name, content.ok_or_else(cut)?))
        };
        let (_, names) = section(usize::from(half(0x3e)?))?;
        let mut entries: Vec<Entry> = Vec::new();
        let mut parameters = Vec::new();
        for index in 0..count {
            let (name, content) = section(index)?;
            let name = names.get(name..).ok_or_else(cut)?;
            let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
            let name = String::from_utf8_lossy(name).into_owned();
            if let Some(function) = name.strip_prefix(CODE) {
                entries.push(Entry {
                    name: function.to_owned(),
                    parameter_bytes: Vec::new(),
                });
            } else if let Some(function) = name.strip_prefix(INFO) {
                parameters.push((function.to_owned(), described(content)));
            }
        }
        for (function, sizes) in parameters {
            let entry = entries.iter_mut().find(|entry| entry.name == function);
            if let Some(entry) = entry {
                entry.parameter_bytes = sizes;
            }
        }
        Ok(Image {
            version: None,
            target,
            entries,
        })
    }
}

/// Parameter sizes in a function's attributes, in order.
fn described(mut attributes: &[u8]) -> Vec<u32> {
    let mut sizes = Vec::new();
    while let [form, kind, rest @ ..] = attributes {
        let Some((value, after)) = rest.split_at_checked(2) else {
            break;
        };
        let value = usize::from(u16::from_le_bytes([value[0], value[1]]));
        attributes = after;
        if *form == SIZED {
            let Some((content, after)) = attributes.split_at_checked(value) else {
                break;
            };
            attributes = after;
            if *kind == PARAMETER
                && let (Some(ordinal), Some(flags)) = (take(content, 4), take(content, 8))
            {
                let bytes = u32::from_le_bytes(flags) >> 18;
                sizes.push((u16::from_le_bytes(ordinal), bytes));
            }
        }
    }
    sizes.sort_unstable();
    sizes.into_iter().map(|(_, bytes)| bytes).collect()
}

fn take<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

fn without_comments(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for line in text.lines() {
        plain.push_str(line.split("//").next().unwrap_or_default());
        plain.push('\n');
    }
    while let Some(start) = plain.find("/*") {
        let end = plain[start..]
            .find("*/")
            .map_or(plain.len(), |end| start + end + 2);
        plain.replace_range(start..end, " ");
    }
    plain
}

/// Size of `.align 8 .b8 name[24]` or `.u64 name`.
fn parameter_bytes(declaration: &str) -> Option<u32> {
    let declaration = declaration.split(',').next()?;
    let unit = declaration
        .split_whitespace()
        .find_map(|word| match word.strip_prefix('.')? {
            "b8" | "u8" | "s8" => Some(1),
            "b16" | "u16" | "s16" | "f16" => Some(2),
            "b32" | "u32" | "s32" | "f32" => Some(4),
            "b64" | "u64" | "s64" | "f64" => Some(8),
            _ => None,
        })?;
    let count = match declaration.split_once('[') {
        Some((_, count)) => count.split(']').next()?.trim().parse().ok()?,
        None => 1,
    };
    Some(unit * count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ptx_tells_its_version_its_target_and_its_parameters() {
        let text = "// made by hand\n.version 7.8 /* so */\n.target sm_80, debug\n.address_size 64\n\
            .visible .entry _plain() { ret; }\n.visible .entry two(\n\t.param .u64 .ptr .global .align 8 a,\n\
            \t.param .align 8 .b8 two_param_1[24],\n\t.param .f32 c\n)\n.maxntid 128, 1, 1\n{ st.param.b32 [x], 1; ret; }\n";
        let image = Image::from_ptx(text).unwrap();
        assert_eq!((image.version, image.target), (Some((7, 8)), 80));
        let entries: Vec<_> = (image.entries.iter())
            .map(|entry| (&entry.name[..], &entry.parameter_bytes[..]))
            .collect();
        assert_eq!(entries, [("_plain", &[][..]), ("two", &[8, 24, 4][..])]);
        assert!(Image::from_ptx(".target sm_80").is_err());
        assert!(Image::from_ptx("").is_err());
    }

    #[test]
    fn machine_code_that_is_cut_short_is_refused_wherever_it_ends() {
        let file = elf();
        let image = Image::from_elf(&file).unwrap();
        assert_eq!((image.version, image.target), (None, 86));
        assert_eq!(
            image.entries,
            [Entry {
                name: "two".to_owned(),
                parameter_bytes: vec![8, 4]
            }]
        );
        let header = file[..HEADER].try_into().unwrap();
        assert_eq!(Image::elf_bytes(header), file.len() as u64);
        for end in 0..file.len() {
            assert!(Image::from_elf(&file[..end]).is_err(), "{end} bytes");
        }
    }

    /// An ELF file with one function of two parameters.
    fn elf() -> Vec<u8> {
        let names = b"\0.text.two\0.nv.info.two\0.names\0";
        let mut info = vec![0x03, 0x1b, 0xff, 0x00];
        for (ordinal, size) in [(1_u16, 4_u32), (0, 8)] {
            info.extend([SIZED, PARAMETER, 12, 0, 0, 0, 0, 0]);
            info.extend(ordinal.to_le_bytes());
            info.extend([0, 0]);
            info.extend((size << 18 | 0x1f000).to_le_bytes());
        }
        let mut file = vec![0; HEADER];
        file[..4].copy_from_slice(b"\x7fELF");
        let name_offset = file.len();
        file.extend(names);
        let info_offset = file.len();
        file.extend(&info);
        let table = file.len();
        for (name, offset, length) in [
            (0, 0, 0),
            (1, 0, 4),
            (11, info_offset, info.len()),
            (24, name_offset, names.len()),
        ] {
            let mut header = [0; HEADER];
            header[..4].copy_from_slice(&u32::to_le_bytes(name));
            header[0x18..0x20].copy_from_slice(&(offset as u64).to_le_bytes());
            header[0x20..0x28].copy_from_slice(&(length as u64).to_le_bytes());
            file.extend(header);
        }
        file[0x28..0x30].copy_from_slice(&(table as u64).to_le_bytes());
        file[0x30..0x34].copy_from_slice(&86_u32.to_le_bytes());
        file[0x3a..0x3c].copy_from_slice(&64_u16.to_le_bytes());
        file[0x3c..0x3e].copy_from_slice(&4_u16.to_le_bytes());
        file[0x3e..0x40].copy_from_slice(&3_u16.to_le_bytes());
        file
    }
}
