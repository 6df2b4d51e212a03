"""The same board over HTTP. Only loaded when the settings name a place to listen."""
