package verify

// The fixed start of a record:
//
//	{"seq":N,"time":"2006-01-02T15:04:05.000000Z",
//
// N in decimal without leading zeros, the time in UTC with six digits.
const (
	prefixSeq  = `{"seq":`
	prefixTime = `,"time":"`
	prefixEnd  = `",`
	timeShape  = "dddd-dd-ddTdd:dd:dd.ddddddZ" // d: a digit
)

// parsePrefix reads sequence number and time (Unix microseconds) of a record
// from its fixed start. When ok is false both are 0.
func parsePrefix(rec []byte) (seq uint64, micros int64, ok bool) {
	if len(rec) < len(prefixSeq) || string(rec[:len(prefixSeq)]) != prefixSeq {
		return 0, 0, false
	}
	b := rec[len(prefixSeq):]
	n := 0
	for ; n < len(b) && n < 20 && b[n]-'0' <= 9; n++ {
		d := uint64(b[n] - '0')
		if seq > (1<<64-1-d)/10 {
			return 0, 0, false
		}
		seq = seq*10 + d
	}
	if n == 0 || (n > 1 && b[0] == '0') {
		return 0, 0, false
	}
	b = b[n:]
	const need = len(prefixTime) + len(timeShape) + len(prefixEnd)
	if len(b) < need || string(b[:len(prefixTime)]) != prefixTime || string(b[need-len(prefixEnd):need]) != prefixEnd {
		return 0, 0, false
	}
	micros, ok = parseTime(b[len(prefixTime):])
	if !ok {
		return 0, 0, false
	}
	return seq, micros, true
}

// parseTime reads a time in the shape of timeShape; b is long enough.
func parseTime(b []byte) (micros int64, ok bool) {
	for i := range len(timeShape) {
		if c := timeShape[i]; c == 'd' && b[i]-'0' > 9 || c != 'd' && b[i] != c {
			return 0, false
		}
	}
	two := func(i int) int64 { return int64(b[i]-'0')*10 + int64(b[i+1]-'0') }
	year, month, day := two(0)*100+two(2), two(5), two(8)
	hour, minute, second := two(11), two(14), two(17)
	if month < 1 || month > 12 || day < 1 || day > monthDays(year, month) || hour > 23 || minute > 59 || second > 59 {
		return 0, false
	}
	secs := ((daysFromCivil(year, month, day)*24+hour)*60+minute)*60 + second
	return secs*1_000_000 + two(20)*10_000 + two(22)*100 + two(24), true
}

func monthDays(year, month int64) int64 {
	switch month {
	case 4, 6, 9, 11:
		return 30
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	}
	return 31
}

// daysFromCivil counts the days from 1970-01-01 in the Gregorian calendar; the
// year is not negative. March is made the first month, so that the leap day is
// the last of the year.
func daysFromCivil(year, month, day int64) int64 {
	if month <= 2 {
		year--
		month += 12
	}
	return 365*year + floorDiv(year, 4) - floorDiv(year, 100) + floorDiv(year, 400) + (153*(month-3)+2)/5 + day - 1 - 719468
}

func floorDiv(a, b int64) int64 {
	if a < 0 {
		return (a - b + 1) / b
	}
	return a / b
}
