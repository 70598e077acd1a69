"""Legal names of folders that something may take for more than a name."""

NAMES = (
    *("w[2]", "a*b", "q?", "[", "lr=0.1", "metric=ece", "a b ", 'it\'s "q"', "ünï…", "{x}", "$a^$", "100%d"),
    *("a#b&c;d", "~nobody", "-x", "a,b@3", "a:b", "%2F", "x\ny", "!x|y", ".hidden", "broken-1"),
)
ALL_AT_ONCE = "lr=0.1 [2] a*b? 'ü' $x^$ {y} #1%"
