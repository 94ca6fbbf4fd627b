"""The paper's tables and figures, measured again by one script each, and the page that shows them."""
