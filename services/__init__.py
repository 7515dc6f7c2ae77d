"""What runs on the app hosts. Imports nothing of deploys/ or ops/."""
