//! Formats and codecs that are recognised but not decoded: their names, and how to convert them.

use std::fmt;

/// A format that is recognised but not decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unread {
    /// Name of the format or codec, with an article where the sentence needs one.
    name: String,
    remedy: Remedy,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Remedy {
    /// Convert it; the file name extension of the example.
    Convert(&'static str),
    /// Copy-protected: cannot be converted.
    Protected,
    /// Audible's protection: can be converted with the account's key.
    Audible,
    /// Not audio.
    NoSound,
    /// Files in one file.
    Archive,
}

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        match self.remedy {
            Remedy::Convert(extension) => write!(
                f,
                "{name} recordings are not supported; convert it: \
                 ffmpeg -i recording.{extension} -vn voice.wav"
            ),
            Remedy::Protected => write!(
                f,
                "the recording is protected by {name} and cannot be decoded; play it and record the \
                 sound: ffmpeg -f pulse -i default -t 20 voice.wav"
            ),
            Remedy::Audible => write!(
                f,
                "the recording is protected by {name}; convert it with your account's key: \
                 ffmpeg -activation_bytes KEY -i recording.aax -vn voice.wav"
            ),
            Remedy::NoSound => write!(f, "this is {name}, not a recording"),
            Remedy::Archive => write!(f, "this is {name}, not a recording; unpack it first"),
        }
    }
}

impl Unread {
    /// A codec within a supported container, in a file of this extension.
    pub(super) fn codec(name: impl Into<String>, extension: &'static str) -> Unread {
        Unread {
            name: name.into(),
            remedy: Remedy::Convert(extension),
        }
    }

    /// A container without a track of sound.
    pub(super) fn without_sound() -> Unread {
        Unread {
            name: "a file without sound".into(),
            remedy: Remedy::NoSound,
        }
    }

    /// A protected track.
    pub(super) fn protected(scheme: &str) -> Unread {
        Unread {
            name: scheme.into(),
            remedy: Remedy::Protected,
        }
    }

    /// Recognises a format without a decoder by a file's first bytes.
    pub(super) fn of_prefix(prefix: &[u8]) -> Option<Unread> {
        let at = |offset: usize, mark: &[u8]| {
            prefix
                .get(offset..)
                .is_some_and(|rest| rest.starts_with(mark))
        };
        let known = MAGIC_BYTES
            .iter()
            .find(|(offset, mark, _, _)| at(*offset, mark));
        if let Some(&(_, _, name, remedy)) = known {
            return Some(Unread {
                name: name.into(),
                remedy,
            });
        }
        if at(0, b"RIFF") && at(8, b"AVI ") {
            return Some(Unread::codec("AVI video", "avi"));
        }
        let no_sound = |name: &str| Unread {
            name: name.into(),
            remedy: Remedy::NoSound,
        };
        if at(0, b"FORM") && at(8, b"8SVX") {
            return Some(Unread::codec("Amiga (8SVX)", "iff"));
        }
        // Frames of LATM begin with eleven bits.
        if let [0x56, second, _, ..] = prefix
            && second & 0xe0 == 0xe0
        {
            return Some(Unread::codec("AAC in LATM", "latm"));
        }
        if prefix.len() > 188 && prefix[0] == 0x47 && prefix[188] == 0x47 {
            return Some(Unread::codec("MPEG transport stream", "ts"));
        }
        let text = prefix.strip_prefix(b"\xef\xbb\xbf").unwrap_or(prefix);
        let text = text.trim_ascii_start();
        if starts_with_any(text, &[b"<!doctype", b"<html", b"<?xml"]) {
            return Some(no_sound("a web page"));
        }
        if text.starts_with(b"version https://git-lfs") {
            return Some(no_sound(
                "the pointer that Git LFS leaves in place of a file",
            ));
        }
        let is_text = prefix.len() >= 16
            && (prefix.iter()).all(|&byte| matches!(byte, b' '..=b'~' | b'\t' | b'\r' | b'\n'));
        is_text.then(|| no_sound("text"))
    }
}

fn starts_with_any(text: &[u8], marks: &[&[u8]]) -> bool {
    marks
        .iter()
        .any(|mark| (text.get(..mark.len())).is_some_and(|start| start.eq_ignore_ascii_case(mark)))
}

/// Offset, magic bytes, name, remedy.
const MAGIC_BYTES: &[(usize, &[u8], &str, Remedy)] = {
    use Remedy::{Archive, Audible, Convert, NoSound};
    &[
        (0, b"#!AMR-WB", "AMR wideband", Convert("awb")),
        (0, b"#!AMR", "AMR", Convert("amr")),
        (
            0,
            b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",
            "Windows Media (WMA, ASF)",
            Convert("wma"),
        ),
        (4, b"\x57\x90\x75\x36", "Audible (AA)", Audible),
        (4, b"ftypaax ", "Audible (AAX)", Audible),
        (4, b"ftypaaxc", "Audible (AAXC)", Audible),
        (0, b".RMF", "RealMedia", Convert("rm")),
        (0, b".ra\xfd", "RealAudio", Convert("ra")),
        (0, b"MAC ", "Monkey's Audio", Convert("ape")),
        (0, b"wvpk", "WavPack", Convert("wv")),
        (0, b"MPCK", "Musepack", Convert("mpc")),
        (0, b"MP+", "Musepack", Convert("mpc")),
        (0, b"TTA1", "True Audio", Convert("tta")),
        (0, b"TTA2", "True Audio", Convert("tta")),
        (0, b"OFR ", "OptimFROG", Convert("ofr")),
        (0, b"ajkg", "Shorten", Convert("shn")),
        (0, b"DSD ", "DSD", Convert("dsf")),
        (0, b"FRM8", "DSD", Convert("dff")),
        (0, b"\x0b\x77", "Dolby Digital (AC-3)", Convert("ac3")),
        (0, b"\x7f\xfe\x80\x01", "DTS", Convert("dts")),
        (0, b"FLV\x01", "Flash video", Convert("flv")),
        (0, b"Creative Voice File", "Creative voice", Convert("voc")),
        (0, b"2BIT", "AVR", Convert("avr")),
        (0, b"NIST_1A", "NIST SPHERE", Convert("sph")),
        (0, b"\x64\xa3", "IRCAM", Convert("sf")),
        (0, b".SoX", "SoX", Convert("sox")),
        (0, b"XoS.", "SoX", Convert("sox")),
        (0, b"MMMD", "SMAF", Convert("mmf")),
        (0, b"STRM", "AST", Convert("ast")),
        (0, b"FWS", "Flash animation", Convert("swf")),
        (0, b"CWS", "Flash animation", Convert("swf")),
        (4, b"\xf8\x72\x6f\xba", "Dolby TrueHD", Convert("thd")),
        (4, b"\xf8\x72\x6f\xbb", "Meridian (MLP)", Convert("mlp")),
        (0, b"\x72\xf8\x1f\x4e", "S/PDIF", Convert("spdif")),
        (0, b"nut/multimedia container", "NUT", Convert("nut")),
        (0, b"\x06\x0e\x2b\x34", "MXF", Convert("mxf")),
        (
            0,
            b"\xb7\xd8\x00",
            "Windows television (WTV)",
            Convert("wtv"),
        ),
        (
            0,
            b"\x00\x00\x01\xba",
            "MPEG program stream",
            Convert("mpg"),
        ),
        (0, b"MThd", "MIDI, which has notes and no sound", NoSound),
        (0, b"\x89PNG", "a PNG picture", NoSound),
        (0, b"\xff\xd8\xff", "a JPEG picture", NoSound),
        (0, b"GIF8", "a GIF picture", NoSound),
        (8, b"WEBP", "a WebP picture", NoSound),
        (4, b"ftypheic", "a HEIC picture", NoSound),
        (4, b"ftypavif", "an AVIF picture", NoSound),
        (0, b"%PDF", "a PDF document", NoSound),
        (0, b"PK\x03\x04", "a zip archive", Archive),
        (0, b"\x1f\x8b", "gzip data", Archive),
        (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", Archive),
        (0, b"Rar!", "a RAR archive", Archive),
        (0, b"\x93NUMPY", "an array of NumPy", NoSound),
        (0, b"\x89HDF", "HDF5 data", NoSound),
        (0, b"SQLite format 3", "a database", NoSound),
        (0, b"\x7fELF", "a program", NoSound),
        (0, b"MZ", "a program", NoSound),
    ]
};
