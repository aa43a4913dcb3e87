package simulate

// eventType is what happens to an email.
type eventType uint8

const (
	scheduled eventType = iota
	sent
	delivered
	deliveredLate // after a delay: the same type on the wire
	delayed
	bounced
	failed
	suppressed
	opened
	clicked
	complained
)

func (t eventType) String() string {
	switch t {
	case scheduled:
		return "email.scheduled"
	case sent:
		return "email.sent"
	case delivered, deliveredLate:
		return "email.delivered"
	case delayed:
		return "email.delivery_delayed"
	case bounced:
		return "email.bounced"
	case failed:
		return "email.failed"
	case suppressed:
		return "email.suppressed"
	case opened:
		return "email.opened"
	case clicked:
		return "email.clicked"
	default:
		return "email.complained"
	}
}

// event is planned: it is due after that many events.
type event struct {
	due   uint64
	typ   eventType
	email *email
}

// eventQueue is a heap by due. It stays short, a few thousand, since a new email is
// started only when nothing is due.
type eventQueue []event

func (q eventQueue) Len() int           { return len(q) }
func (q eventQueue) Less(i, j int) bool { return q[i].due < q[j].due }
func (q eventQueue) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *eventQueue) Push(x any)        { *q = append(*q, x.(event)) }
func (q *eventQueue) Pop() any {
	last := len(*q) - 1
	ev := (*q)[last]
	(*q)[last] = event{} // release the email
	*q = (*q)[:last]
	return ev
}
