package view

// Serving says where a page is served.
func (v *View) Serving(address string, actions bool) {
	v.Say("%s  (Ctrl-C ends it)", v.bold.Render(address))
	if actions {
		v.Say("%s", v.dim.Render("Who has this address can stop and start applies of this project."))
	}
}
