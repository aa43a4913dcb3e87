package tracking

// DeadLetterMaxBytes is the recommended max.message.bytes of the dead-letter topic: twice
// Kafka's default record limit (1 MiB), so that a record fits together with the headers
// that are added. No larger record is sent.
const DeadLetterMaxBytes = 2 << 20

// smallPart is what [Record.Cut] leaves alone at first, in bytes.
const smallPart = 4 << 10

// omitted is why a part was cut.
const omitted = "too large for this topic: see its max.message.bytes"

// Cut makes a dead letter that its topic refuses as too large smaller, by its next part:
// the value, then headers, then the key. Parts of up to 4 KiB are cut only once no larger
// one is left. The letter says which parts it lacks. Reason and source are never cut; if
// nothing else is left, Cut returns false.
func (r *Record) Cut() bool {
	for _, limit := range []int{smallPart, 0} {
		switch {
		case len(r.Value) > limit:
			r.Value, r.DeadLetter.ValueOmitted = nil, omitted
		case r.cutHeaders(limit):
			r.DeadLetter.HeadersOmitted = omitted
		case len(r.Key) > limit:
			r.Key, r.DeadLetter.KeyOmitted = nil, omitted
		default:
			continue
		}
		return true
	}
	return false
}

// cutHeaders removes mailtally's headers that are longer than limit, and all others if
// together they are. It truncates the detail, which is for people.
func (r *Record) cutHeaders(limit int) (cut bool) {
	for _, text := range []*string{&r.Provider, &r.EventID, &r.SentAt} {
		if len(*text) > limit {
			*text, cut = "", true
		}
	}
	others := 0
	for _, h := range r.Others {
		others += len(h.Key) + len(h.Value) + 2 // an empty one takes two bytes
	}
	if others > limit {
		r.Others, cut = nil, true
	}
	d := r.DeadLetter
	if len(d.Detail) > limit {
		d.Detail, cut = Clean(d.Detail, limit), true
	}
	for _, text := range []*string{&d.ValueOmitted, &d.HeadersOmitted, &d.KeyOmitted} {
		if len(*text) > limit && *text != omitted { // a header that the record came with
			*text, cut = omitted, true
		}
	}
	return cut
}
