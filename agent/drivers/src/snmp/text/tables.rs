//! The upper halves of two character sets that printers still name and that the WHATWG list of encodings does not have.

/// HP Roman-8 (MIBenum 2004): `PCL` printers since 1984.
pub(super) const HP_ROMAN8: [&str; 4] = [
    // Control characters: none of them belongs in a text.
    "                                ",
    "\u{a0}ÀÂÈÊËÎÏ´ˋˆ¨˜ÙÛ₤¯Ýý°ÇçÑñ¡¿¤£¥§ƒ¢",
    "âêôûáéóúàèòùäëöüÅîØÆåíøæÄìÖÜÉïßÔ",
    "ÁÃãÐðÍÌÓÒÕõŠšÚŸÿÞþ·µ¶¾—¼½ªº«\u{25a0}»±\u{fffd}",
];

/// IBM code page 850 (MIBenum 2009): Western Europe under DOS.
pub(super) const IBM_850: [&str; 4] = [
    "ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜø£Ø×ƒ",
    "áíóúñÑªº¿®¬½¼¡«»\u{2591}\u{2592}\u{2593}\u{2502}\u{2524}ÁÂÀ©\u{2563}\u{2551}\u{2557}\u{255d}¢¥\u{2510}",
    "\u{2514}\u{2534}\u{252c}\u{251c}\u{2500}\u{253c}ãÃ\u{255a}\u{2554}\u{2569}\u{2566}\u{2560}\u{2550}\u{256c}¤ðÐÊËÈıÍÎÏ\u{2518}\u{250c}\u{2588}\u{2584}¦Ì\u{2580}",
    "ÓßÔÒõÕµþÞÚÛÙýÝ¯´\u{ad}±‗¾¶§÷¸°¨·¹³²\u{25a0}\u{a0}",
];
