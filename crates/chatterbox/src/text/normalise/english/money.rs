//! Currencies, and abbreviations of large amounts.

use super::super::language::Currency;

pub(super) const MAGNITUDES: &[(&str, &str)] = &[
    ("quadrillion", "quadrillion"),
    ("trillion", "trillion"),
    ("thousand", "thousand"),
    ("million", "million"),
    ("billion", "billion"),
    ("hundred", "hundred"),
    ("lakh", "lakh"),
    ("crore", "crore"),
    ("dozen", "dozen"),
    ("tril", "trillion"),
    ("bil", "billion"),
    ("mil", "million"),
    ("mln", "million"),
    ("bln", "billion"),
    ("trn", "trillion"),
    ("mm", "million"),
    ("mn", "million"),
    ("bn", "billion"),
    ("tn", "trillion"),
    ("k", "thousand"),
    ("m", "million"),
    ("b", "billion"),
    ("t", "trillion"),
];

const NO_PARTS: [&str; 2] = ["", ""];
const CENTS: [&str; 2] = ["cent", "cents"];

const fn currency(
    signs: &'static [&'static str],
    codes: &'static [&'static str],
    names: [&'static str; 2],
    parts: [&'static str; 2],
) -> Currency {
    Currency {
        signs,
        codes,
        names,
        parts,
    }
}

/// Longer signs come before their prefixes.
pub(super) const CURRENCIES: &[Currency] = &[
    currency(
        &["US$", "U.S.$", "USD$", "$US"],
        &["USD"],
        ["US dollar", "US dollars"],
        CENTS,
    ),
    currency(
        &["CA$", "C$", "CAD$", "Can$"],
        &["CAD"],
        ["Canadian dollar", "Canadian dollars"],
        CENTS,
    ),
    currency(
        &["AU$", "A$", "AUD$"],
        &["AUD"],
        ["Australian dollar", "Australian dollars"],
        CENTS,
    ),
    currency(
        &["NZ$"],
        &["NZD"],
        ["New Zealand dollar", "New Zealand dollars"],
        CENTS,
    ),
    currency(
        &["HK$"],
        &["HKD"],
        ["Hong Kong dollar", "Hong Kong dollars"],
        CENTS,
    ),
    currency(
        &["NT$"],
        &["TWD"],
        ["Taiwan dollar", "Taiwan dollars"],
        CENTS,
    ),
    currency(
        &["S$"],
        &["SGD"],
        ["Singapore dollar", "Singapore dollars"],
        CENTS,
    ),
    currency(
        &["MX$", "Mex$"],
        &["MXN"],
        ["Mexican peso", "Mexican pesos"],
        ["centavo", "centavos"],
    ),
    currency(
        &["R$"],
        &["BRL"],
        ["real", "reais"],
        ["centavo", "centavos"],
    ),
    currency(&["$"], &[], ["dollar", "dollars"], CENTS),
    currency(&["£"], &["GBP"], ["pound", "pounds"], ["penny", "pence"]),
    currency(&["€"], &["EUR"], ["euro", "euros"], CENTS),
    currency(
        &["CN¥", "RMB¥"],
        &["CNY", "RMB", "CNH"],
        ["yuan", "yuan"],
        NO_PARTS,
    ),
    currency(&["JP¥", "¥", "円"], &["JPY"], ["yen", "yen"], NO_PARTS),
    currency(&["₩"], &["KRW"], ["won", "won"], NO_PARTS),
    currency(
        &["₹", "Rs.", "Rs"],
        &["INR"],
        ["rupee", "rupees"],
        ["paisa", "paise"],
    ),
    currency(&["₽"], &["RUB"], ["ruble", "rubles"], ["kopeck", "kopecks"]),
    currency(&["₺"], &["TRY"], ["lira", "liras"], NO_PARTS),
    currency(&["₴"], &["UAH"], ["hryvnia", "hryvnias"], NO_PARTS),
    currency(&["₪"], &["ILS", "NIS"], ["shekel", "shekels"], NO_PARTS),
    currency(&["₫"], &["VND"], ["dong", "dong"], NO_PARTS),
    currency(&["฿"], &["THB"], ["baht", "baht"], NO_PARTS),
    currency(&["₱"], &["PHP"], ["peso", "pesos"], ["centavo", "centavos"]),
    currency(&["₦"], &["NGN"], ["naira", "naira"], NO_PARTS),
    currency(&["₵"], &["GHS"], ["cedi", "cedis"], NO_PARTS),
    currency(&["₡"], &["CRC"], ["colon", "colones"], NO_PARTS),
    currency(&["₲"], &["PYG"], ["guarani", "guaranies"], NO_PARTS),
    currency(&["₸"], &["KZT"], ["tenge", "tenge"], NO_PARTS),
    currency(&["₮"], &["MNT"], ["tugrik", "tugriks"], NO_PARTS),
    currency(&["₾"], &["GEL"], ["lari", "lari"], NO_PARTS),
    currency(&["₿"], &["BTC"], ["bitcoin", "bitcoins"], NO_PARTS),
    currency(&["zł"], &["PLN"], ["zloty", "zlotys"], NO_PARTS),
    currency(&["Kč"], &["CZK"], ["Czech crown", "Czech crowns"], NO_PARTS),
    currency(&["kr"], &[], ["krone", "kroner"], NO_PARTS),
    currency(&[], &["SEK"], ["Swedish krona", "Swedish kronor"], NO_PARTS),
    currency(
        &[],
        &["NOK"],
        ["Norwegian krone", "Norwegian kroner"],
        NO_PARTS,
    ),
    currency(&[], &["DKK"], ["Danish krone", "Danish kroner"], NO_PARTS),
    currency(
        &["Fr."],
        &["CHF"],
        ["Swiss franc", "Swiss francs"],
        NO_PARTS,
    ),
    currency(&["Ft"], &["HUF"], ["forint", "forints"], NO_PARTS),
    currency(&[], &["ZAR"], ["rand", "rand"], NO_PARTS),
    currency(&[], &["SAR"], ["riyal", "riyals"], NO_PARTS),
    currency(&[], &["AED"], ["dirham", "dirhams"], NO_PARTS),
    currency(
        &[],
        &["EGP"],
        ["Egyptian pound", "Egyptian pounds"],
        NO_PARTS,
    ),
    currency(&[], &["IDR"], ["rupiah", "rupiah"], NO_PARTS),
    currency(&[], &["MYR"], ["ringgit", "ringgit"], NO_PARTS),
    currency(
        &[],
        &["ARS"],
        ["Argentine peso", "Argentine pesos"],
        NO_PARTS,
    ),
    currency(&["¢"], &[], ["cent", "cents"], NO_PARTS),
];
