package main

// wrong notes that final rows of mailtally's are not what they should be.
func (b *bench) wrong(what string) { b.log.Error("final rows are wrong", "what", what) }
