package engine

// Window is window, for tests.
var Window = window
