"""The English half of the story generator: the people and places, and the plots with their wordings."""

import random

from soban.learn.tale import Plot, Word

GIRLS = (
    "Lily Mia Anna Lucy Emma Zoe Kate Nora Ella Hana Amy Rosa Sara Mina Jane Sue Beth Alice Clara Daisy Eva Grace Ivy Julia "
    "Lena Maya Molly Nina Olivia Ruby Sophie Tina Wendy Yuna Bora Sena"
).split()
BOYS = (
    "Tom Ben Max Sam Jack Leo Finn Tim Theo Oscar Dan Jun Noah Hugo Adam Alex Bob Carl David Eric Fred George Henry Ian Jake "
    "Kevin Luke Mark Nick Owen Paul Peter Ray Simon Will Minho"
).split()
ANIMALS = (
    "rabbit fox bear cat dog mouse duck turtle squirrel hedgehog frog bird pig goat lamb kitten puppy monkey deer owl"
).split()
ANIMAL_NAMES = "Pip Dot Nib Coco Toto Bibi Momo Fuzzy Sunny Pepper Hazel Bumble Nutty Lulu Rusty Berry".split()
TRAITS = "little kind curious brave shy cheerful small clever gentle young".split()
FAMILY = (("Mom", "she", "her", "her"), ("Dad", "he", "him", "his"), ("Grandma", "she", "her", "her"), ("Grandpa", "he", "him", "his"))
WISE = (("the old owl", "she", "her", "her"), ("the wise turtle", "he", "him", "his"), ("the big bear", "he", "him", "his"), ("the old goat", "she", "her", "her"))

PLACES = (
    {"place": "the park", "spot1": "under the bench", "spot2": "behind the slide", "spot3": "in the sandbox", "spot4": "next to the fountain"},
    {"place": "the forest", "spot1": "under the leaves", "spot2": "behind a big tree", "spot3": "in a bush", "spot4": "next to an old log"},
    {"place": "the garden", "spot1": "under the roses", "spot2": "behind the shed", "spot3": "in the tall grass", "spot4": "next to the well"},
    {"place": "the beach", "spot1": "under a shell", "spot2": "behind a rock", "spot3": "in the sand", "spot4": "next to a boat"},
    {"place": "the river", "spot1": "under the bridge", "spot2": "behind a big stone", "spot3": "in the reeds", "spot4": "next to the water"},
    {"place": "the hill", "spot1": "under a pine tree", "spot2": "behind a rock", "spot3": "in the flowers", "spot4": "next to the gate"},
    {"place": "the farm", "spot1": "under the cart", "spot2": "behind the barn", "spot3": "in the hay", "spot4": "next to the fence"},
    {"place": "the meadow", "spot1": "under a leaf", "spot2": "behind a stump", "spot3": "in the clover", "spot4": "next to a small stream"},
)
WEATHER = ("sunny", "warm", "windy", "cool", "bright", "quiet", "cloudy")
COLOURS = "red blue yellow green white pink purple orange".split()
TOYS = "ball kite hat scarf boat ribbon bell button umbrella balloon drum cup doll car book key coat shoe ring box".split()
FOODS = ("an apple", "apple", "apples"), ("a cookie", "cookie", "cookies"), ("a pear", "pear", "pears"), ("a cake", "cake", "cakes"), ("a carrot", "carrot", "carrots"), ("a berry", "berry", "berries"), ("a nut", "nut", "nuts"), ("a peach", "peach", "peaches")


def world(chance: random.Random) -> dict[str, str]:
    """Who, where and with what."""
    fields: dict[str, str] = {}
    child = chance.random() < 0.55
    fields |= person(chance, child, "", set())
    fields |= person(chance, child and chance.random() < 0.6, "f", {fields["hcall"], fields["kind"]})
    kinds = {fields["kind"], fields["fkind"]}
    elder = chance.choice(FAMILY if child else [wise for wise in WISE if wise[0].split()[-1] not in kinds])
    fields |= dict(zip(("elder", "ehe", "ehim", "ehis"), elder, strict=True))
    fields |= chance.choice(PLACES) | {"weather": chance.choice(WEATHER), "trait": chance.choice(TRAITS)}
    fields["thing"] = f"{chance.choice(COLOURS)} {chance.choice(TOYS)}"
    fields |= dict(zip(("a_food", "food", "foods"), chance.choice(FOODS), strict=True))
    spots = chance.sample(("spot1", "spot2", "spot3", "spot4"), 3)
    fields |= {"here": fields[spots[0]], "there": fields[spots[1]], "found": fields[spots[2]]}
    return fields | {"elder_s": elder[0] + "'s", "ecall": elder[0].removeprefix("the ").title()}


def person(chance: random.Random, child: bool, prefix: str, taken: set[str]) -> dict[str, str]:
    """A child, a named animal or an animal called by its kind; the friend's fields carry the prefix f."""
    girl = chance.random() < 0.5
    pronouns = ("she", "her", "her") if girl else ("he", "him", "his")
    if child:
        kind = "girl" if girl else "boy"
        name = chance.choice([n for n in (GIRLS if girl else BOYS) if n not in taken])
        intro, first = f"a {{trait}} {kind} named {name}", name
    else:
        kind = chance.choice([a for a in ANIMALS if a not in taken])
        if chance.random() < 0.6:
            name = chance.choice([n for n in ANIMAL_NAMES if n not in taken])
            intro = f"a {{trait}} {kind} named {name}"
            first = f"{name} the {kind}"
        else:
            name = f"the {kind}"
            intro = first = f"a {chance.choice(TRAITS)} {kind}" if not prefix else f"{Word(kind):a}"
    trait = chance.choice(TRAITS)
    call = name.removeprefix("the ").title()
    fields = {"intro": intro.format(trait=trait), "first": first, "kind": kind, "call": call}
    fields |= dict(zip(("he", "him", "his"), pronouns, strict=True)) | {"himself": "herself" if girl else "himself"}
    fields = {prefix + key: value for key, value in fields.items()}
    return fields | ({"friend": name} if prefix else {"hero": name, "hcall": call})


def finish(chance: random.Random, text: str) -> str:
    """The story with a comma where a quoted sentence runs on into who said it."""
    return text.replace('." said', '," said')


OPENINGS = (
    "Once upon a time, there was {intro}.",
    "Once upon a time, there was {intro}.",
    "Once upon a time, [near {place}|in a small house near {place}|not far from {place}], there lived {intro}.",
    "Once upon a time, {intro} lived [near {place}|in a small house near {place}|not far from {place}].",
    "Once there was {intro}.",
    "There was once {intro}.",
    "A long time ago, there lived {intro}.",
    "Long ago, [near {place}|not far from {place}], there lived {intro}.",
    "In a small house near {place}, there lived {intro}.",
    "This is a story about {intro}.",
)

ENDINGS = (
    "From that day on, {hero} and {friend} were [best friends|good friends].",
    "And {hero} and {friend} [played together every day|laughed all the way home].",
    "That night, {hero} [fell asleep with a smile|had a sweet dream|slept very well].",
    "It was [a good day|the best day of all|a day to remember].",
    "{Hero} [never forgot that day|remembered that day for a long time].",
    "They all lived happily ever after.",
    "{Hero} went home with a [big smile|warm heart|happy song].",
    "The end.",
    "",
    "",
)

NUMBERS = ({"n": "two", "left": "one"}, {"n": "three", "left": "two"}, {"n": "four", "left": "three"}, {"n": "five", "left": "four"})

PLOTS = (
    Plot(
        "lost",
        2,
        starts=(
            "{First} found {thing:a} [in the grass|on the road|near the gate]. [{Hero} took it to {place}.|\"How pretty!\" {he} said, and {he} took it to {place}.]",
            "{First} had {thing:a}. One day, {hero} took it to {place}.",
            "One day, {first} went to {place} with {thing:a}.",
            "One {weather} morning, {first} took {his} {thing} to {place}.",
            "{First} got {thing:a} for {his} birthday. {Hero} took it to {place} at once.",
        ),
        beats=(
            ("{Hero} had {thing:a}. {He} [loved it very much|took it everywhere|played with it every day].",
             "{Hero} loved {his} {thing} [more than anything|very much|with all {his} heart]."),
            ("One {weather} day, {hero} went to {place} [to play|with the {thing}].", "One day, {hero} took the {thing} to {place}.", "One {weather} morning, {he} played with it at {place}."),
            ("But when it was time to go home, the {thing} was gone!", "Suddenly, the wind blew and the {thing} was gone!", "{He} played and played. Then {he} looked down, and the {thing} was gone!", "{He} put the {thing} down to rest. When {he} woke up, it was not there!"),
            ("\"Oh no! Where is my {thing}?\" {hero} cried.", "{Hero} was [very sad|so sad that {he} began to cry].", "\"My {thing}! I lost it!\" said {hero}. {He} began to cry."),
            ("Just then, {ffirst} came by. \"[Why are you sad?|What is wrong?|Why are you crying?]\" asked {friend}.", "{Ffirst} heard {him} and came to help.", "{Ffirst} came up to {him}. \"[Don't cry. I will help you|Let us look together|I can help you find it],\" said {friend}."),
            ("They looked {here}, but it was not there. They looked {there}, but it was not there.", "First they looked {here}. Nothing! Then they looked {there}. Nothing!", "{Hero} looked {here}. {Friend} looked {there}. But they could not find it."),
            ("At last, {friend} looked {found}. There it was!", "Then {hero} saw something {found}. It was the {thing}!", "\"Look!\" said {friend}. The {thing} was {found}!"),
            ("\"Thank you, {fcall}!\" said {hero}. {He} was [so happy|very happy|happy again].", "{Hero} hugged {friend}. \"Thank you for helping me,\" {he} said.", "{Hero} jumped for joy. \"Thank you, {fcall}!\" {he} said."),
        ),
        cases=({},),
    ),
    Plot(
        "sharing",
        2,
        starts=(
            "{First} had {n} {foods}. {He} was going to eat them all.",
            "One day, {first} found {n} {foods} at {place}.",
            "{First} sat down at {place} to eat {n} {foods}.",
            "One {weather} day, {elder} gave {first} {n} {foods}.",
        ),
        beats=(
            ("{Hero} loved {foods} more than anything.", "{Hero} liked to eat {foods}.", ""),
            ("One day, {he} had {n} {foods}.", "One {weather} day, {elder} gave {him} {n} {foods}.", "One morning, {he} found {n} {foods} at {place}."),
            ("Then {ffirst} came by. {Friend} looked [very hungry|sad and hungry].", "On the way home, {he} met {ffirst}. {Friend} was [very hungry|sad and hungry].", "{Ffirst} sat [by the road|alone under a tree]. {Friend} had nothing to eat."),
            ("\"I am so hungry,\" said {friend}. \"May I have one?\"", "\"I have not eaten all day,\" said {friend}.", "\"Those {foods} look so good,\" said {friend}."),
            ("{Hero} looked at the {foods}. {He} wanted to eat them all.", "{Hero} did not want to share at first.", "{Hero} thought for a while."),
            ("But {friend} looked so sad. So {hero} gave {fhim} one {food}. Now {he} had {left} left.", "Then {he} smiled and gave {a_food} to {friend}. {He} had {left} left.", "\"Here, you can have one,\" said {hero}. {He} had {left} left, and that was enough."),
            ("\"Thank you! You are very kind,\" said {friend}.", "{Friend} ate the {food} and smiled. \"Thank you, {hcall}!\"", "{Friend} was so happy that {fhe} danced."),
            ("They sat together and ate. The {food} tasted [better|sweeter] than ever.", "They ate together and talked until the sun went down.", "{Hero} was happy too. Sharing [felt good|made {his} heart warm]."),
        ),
        cases=NUMBERS,
    ),
    Plot(
        "rescue",
        2,
        starts=(
            "{First} was walking near {where} when {he} heard a small voice.",
            "One {weather} day, {first} heard a cry near {where}.",
            "\"Help! Help!\" someone cried. {First} [stopped and listened|ran to see who it was].",
        ),
        beats=(
            ("{Hero} liked to [help others|walk by {himself}|sing while walking].", "{Hero} had a [kind|good|warm] heart.", ""),
            ("One {weather} day, {he} was walking near {where}.", "One day, {he} went for a walk near {where}.", "One morning, {he} walked past {where}."),
            ("\"Help! Help me!\" cried a small voice.", "Suddenly, {he} heard someone crying.", "{He} heard a sound. \"Please help me!\""),
            ("It was {ffirst}. {Friend} was {stuck}!", "{He} saw {ffirst} {stuck}."),
            ("{Hero} tried to {try}, but {problem}.", "First, {hero} tried to {try}. But {problem}."),
            ("\"Wait here! I have an idea,\" said {hero}.", "\"Don't be afraid,\" said {hero}. \"I will come back soon.\"", "{Hero} did not give up. {He} thought hard."),
            ("{He} {remedy}.", "{He} ran to {elder} for help. Then together they came back, and {he} {remedy}."),
            ("At last, {friend} was [free|safe]! \"Thank you for saving me,\" said {friend}.", "Soon {friend} was [safe|free]. \"You saved me! Thank you, {hcall}!\" said {friend}.", "{Friend} was safe at last. {Fhe} hugged {hero} and said, \"Thank you.\""),
            ("\"Let us be friends,\" said {hero}.", "\"You are welcome,\" said {hero}. \"[I am glad you are safe|Please be careful next time].\"", ""),
        ),
        cases=(
            {"where": "the old well", "stuck": "at the bottom of a dry well", "try": "reach down", "problem": "the well was too deep", "remedy": "found a long rope and pulled {friend} up"},
            {"where": "the pond", "stuck": "stuck in the mud", "try": "pull with both hands", "problem": "the mud was too thick", "remedy": "found a strong branch, and {friend} held on to it until {fhe} came out"},
            {"where": "the tall tree", "stuck": "up in a tall tree and could not come down", "try": "climb up", "problem": "the tree was too tall", "remedy": "brought a ladder and helped {friend} climb down"},
            {"where": "the stream", "stuck": "on a stone in the middle of the stream", "try": "jump across", "problem": "the water was too fast", "remedy": "laid a long log across the water, and {friend} walked over it"},
            {"where": "the berry bushes", "stuck": "caught in the thorns", "try": "push the thorns away", "problem": "they were too sharp", "remedy": "cut the thorns one by one until {friend} could get out"},
            {"where": "the snowy field", "stuck": "stuck in the deep snow", "try": "dig with {his} hands", "problem": "the snow was too cold", "remedy": "found a shovel and dug {friend} out"},
            {"where": "the old barn", "stuck": "locked inside the old barn", "try": "push the door", "problem": "the door was too heavy", "remedy": "found the key under a stone and opened the door"},
        ),
    ),
    Plot(
        "fear",
        1,
        starts=(
            "{First} was afraid of {fear}.",
            "It was late, and {first} could not sleep. {He} was afraid of {fear}.",
            "One evening, {first} hid under the bed because {he} was afraid of {fear}.",
        ),
        beats=(
            ("{Hero} was afraid of {fear}.", "{Hero} was brave, but {he} was afraid of {fear}.", "There was only one thing that scared {hero}. It was {fear}."),
            ("One {when}, {event}.", "Then one {when}, {event}."),
            ("{Hero} [hid under the blanket|closed {his} eyes|began to shake]. \"I am scared,\" {he} said.", "\"I am so scared!\" cried {hero}.", "{His} heart beat fast. {He} wanted to run away."),
            ("{Elder} sat beside {him} and said, \"{comfort}\"", "\"Don't worry,\" said {elder}. \"{comfort}\"", "{Elder} held {his} hand. \"{comfort}\""),
            ("{Hero} took a deep breath and {act}.", "Slowly, {hero} {act}."),
            ("{Discovery}.",),
            ("\"It is not so scary after all!\" said {hero}.", "{Hero} laughed. {He} was not afraid anymore.", "\"I did it! I am brave!\" said {hero}."),
            ("{Elder} was proud of {him}.", "{Elder} smiled and gave {him} a big hug.", ""),
        ),
        cases=(
            {"fear": "the dark", "when": "night", "event": "the light in the room went out", "comfort": "The dark is only the night's warm blanket.", "act": "looked out of the window", "discovery": "{He} saw a hundred stars shining in the sky"},
            {"fear": "thunder", "when": "evening", "event": "there was a big storm with loud thunder", "comfort": "Thunder is only the clouds playing the drums.", "act": "listened to the thunder", "discovery": "Boom, boom! It really sounded like a drum, and {he} clapped along"},
            {"fear": "the water", "when": "summer day", "event": "everyone went to swim in the lake", "comfort": "Put in one toe first. I will hold you.", "act": "put one toe into the water", "discovery": "The water was cool and nice, and soon {he} was splashing"},
            {"fear": "high places", "when": "morning", "event": "{his} friends climbed up the big hill", "comfort": "Take one small step at a time.", "act": "walked up step by step", "discovery": "From the top, {he} could see the whole town"},
            {"fear": "the wind", "when": "night", "event": "the wind howled around the house", "comfort": "The wind is only singing a song.", "act": "opened the window a little", "discovery": "The wind came in softly and played with {his} hair"},
            {"fear": "the old house", "when": "afternoon", "event": "{his} ball rolled into the garden of the old house", "comfort": "Knock on the door and say hello.", "act": "knocked on the door", "discovery": "A nice old lady opened the door and gave {him} the ball and a cookie"},
        ),
    ),
    Plot(
        "making",
        2,
        starts=(
            "{First} wanted to make {made:a}.",
            "One {weather} day, {first} wanted to make {made:a}.",
            "\"Let us make {made:a}!\" said {first}.",
            "{First} found {stuff}. \"I can make {made:a}!\" {he} said.",
        ),
        beats=(
            ("{Hero} liked to make things.", "{Hero} was good at making things.", ""),
            ("One {weather} day, {he} wanted to make {made:a}.", "One day, {he} said, \"I will make {made:a}!\"", "One morning, {he} had an idea. {He} would make {made:a}."),
            ("{He} took {stuff} and began to work.", "{He} worked all morning with {stuff}."),
            ("But {failure}.", "But oh no! {Failure}."),
            ("{Hero} was [sad|upset]. \"I can't do it,\" {he} said.", "\"It is too hard,\" said {hero}. {He} wanted to give up.", "{Hero} sat down and sighed."),
            ("Then {ffirst} came. \"{advice}\" said {friend}.", "{Ffirst} saw it and said, \"{advice}\"", "\"{advice}\" said {ffirst}. \"Let us try again together.\""),
            ("So they tried again. This time, {success}!", "{Hero} and {friend} worked together. Soon {success}!", "They worked until noon, and then {success}!"),
            ("\"We did it!\" they shouted.", "{Hero} was very proud. \"Thank you, {fcall}!\" {he} said.", "\"It is much better to work together,\" said {hero}."),
        ),
        cases=(
            {"made": "kite", "stuff": "paper and sticks", "failure": "the kite fell to the ground again and again", "advice": "It needs a longer tail.", "success": "the kite flew high in the sky"},
            {"made": "cake", "stuff": "flour, eggs and milk", "failure": "the cake was flat and hard", "advice": "You forgot the sugar and butter.", "success": "the cake was big and soft"},
            {"made": "boat", "stuff": "wood and string", "failure": "the boat sank in the water", "advice": "The wood is too heavy. Use a lighter one.", "success": "the boat floated on the water"},
            {"made": "sandcastle", "stuff": "sand and a bucket", "failure": "the sandcastle fell down", "advice": "Use wet sand, and it will stay.", "success": "the sandcastle stood tall"},
            {"made": "tree house", "stuff": "boards and nails", "failure": "the roof fell off with a crash", "advice": "Let me hold the boards for you.", "success": "the tree house was strong and pretty"},
            {"made": "snowman", "stuff": "snow and a carrot", "failure": "the head rolled off", "advice": "The head must be smaller than the body.", "success": "the snowman stood there with a smile"},
            {"made": "soup", "stuff": "carrots and potatoes", "failure": "the soup tasted like water", "advice": "It needs a little salt.", "success": "the soup tasted wonderful"},
        ),
    ),
    Plot(
        "truth",
        2,
        starts=(
            "{First} broke {elder_s} {fragile}.",
            "Crash! {First} looked down. {Elder_s} {fragile} was broken.",
            "One day, {first} was playing at home and broke the {fragile}.",
        ),
        beats=(
            ("{Hero} liked to [run and jump in the house|play with a ball at home].", ""),
            ("One day, {he} ran through the house and hit the table. Crash! {Elder_s} {fragile} fell down and broke.", "One day, {his} ball flew across the room and hit {elder_s} {fragile}. Crash! It broke.", "One {weather} day, {he} bumped into the shelf. Down came {elder_s} {fragile}. It broke!"),
            ("{Hero} was scared. \"{Elder} will be angry,\" {he} thought.", "\"Oh no! What should I do?\" thought {hero}.", "{Hero} did not know what to do. {He} felt very bad."),
            ("{He} wanted to hide the pieces under the bed.", "First, {he} hid behind the door.", "{He} thought about running away."),
            ("But {he} knew it was wrong to lie.", "But {his} heart felt heavy.", "But {he} wanted to be honest."),
            ("So {he} went to {elder} and said, \"I am sorry. I broke your {fragile}.\"", "{Hero} told the truth. \"I broke the {fragile}. I am very sorry,\" {he} said."),
            ("{Elder} was not angry. \"Thank you for telling me the truth,\" {ehe} said.", "{Elder} was sad, but then {ehe} smiled. \"I am glad that you told me,\" {ehe} said.", "{Elder} hugged {him}. \"Telling the truth is brave,\" {ehe} said."),
            ("Together they fixed the {fragile} with glue.", "They picked up the pieces and glued the {fragile} together.", "After that, {hero} was always careful."),
            ("{Hero} felt much better.", "{His} heart felt light again.", ""),
        ),
        cases=({"fragile": "cup"}, {"fragile": "vase"}, {"fragile": "plate"}, {"fragile": "lamp"}, {"fragile": "flower pot"}, {"fragile": "clock"}),
    ),
    Plot(
        "gift",
        2,
        starts=(
            "Tomorrow was {elder_s} birthday, and {first} had no gift.",
            "{First} wanted to give {elder} a present.",
            "\"What should I give to {elder}?\" thought {first}.",
        ),
        beats=(
            ("{Hero} loved {elder} very much.", "{Hero} and {elder} were always together.", ""),
            ("One day, it was {elder_s} birthday.", "{Elder_s} birthday was coming soon."),
            ("{Hero} wanted to give {ehim} a present, but {he} had no money.", "\"I want to give a present, but I have no money,\" {he} said."),
            ("{He} asked {ffirst} what to do. \"Make something yourself,\" said {friend}.", "\"You can make something with your own hands,\" said {ffirst}.", "Then {he} had a good idea."),
            ("So {hero} went to {place} and {work}.", "{Hero} went out to {place}. There {he} {work}."),
            ("It took all day, but {he} did not stop.", "{He} worked very hard until evening.", "It was not easy, but {he} did {his} best."),
            ("Then {hero} gave the {gift} to {elder}. \"Happy birthday!\" {he} said.", "\"Happy birthday, {ecall}!\" said {hero}, and gave {ehim} the {gift}."),
            ("{Elder} was so happy. \"This is the best present ever,\" {ehe} said.", "{Elder} hugged {him}. \"What a beautiful {gift}! Thank you,\" {ehe} said.", "{Elder} smiled with tears in {ehis} eyes. \"Thank you, my dear,\" {ehe} said."),
        ),
        cases=(
            {"gift": "flower crown", "place": "the meadow", "work": "picked flowers and made a flower crown"},
            {"gift": "necklace", "place": "the beach", "work": "found pretty shells and made a necklace"},
            {"gift": "basket", "place": "the river", "work": "cut long grass and made a basket"},
            {"gift": "picture", "place": "the hill", "work": "sat down and painted a picture"},
            {"gift": "song", "place": "the forest", "work": "listened to the birds and made a song"},
            {"gift": "card", "place": "the park", "work": "found colorful leaves and made a card"},
        ),
    ),
    Plot(
        "rain",
        1,
        starts=(
            "One day, {first} and {ffirst} went to {place} for a picnic.",
            "{First} packed {foods} and went on a picnic with {ffirst}.",
            "One {weather} day, {first} went to {place} with {ffirst}.",
        ),
        beats=(
            ("One {weather} day, {hero} and {ffirst} went to {place} for a picnic.", "One day, {hero} packed {foods} and went to {place} with {ffirst}."),
            ("But dark clouds came, and it began to rain.", "Suddenly, the sky turned gray and rain began to fall.", "Drip, drop! Rain began to fall."),
            ("\"Our day is ruined!\" said {friend}.", "\"Oh no, the rain!\" cried {hero}.", "{Friend} was sad. \"I wanted to play outside,\" {fhe} said."),
            ("They ran under a big tree and waited.", "They held a big leaf over their heads and ran to a small cave.", "They ran into an old hut to stay dry."),
            ("\"Let us {game},\" said {hero}.", "{Hero} had an idea. \"We can {game}!\""),
            ("So they {gamed}, and they laughed a lot.", "They {gamed} and forgot about the rain."),
            ("Soon the rain stopped. \"Look! A rainbow!\" said {friend}.", "After a while, the sun came out, and there was a rainbow in the sky."),
            ("\"It is so pretty,\" said {hero}. \"[The rain was not so bad|I am glad that it rained].\"", "They jumped in the puddles all the way home.", "The two friends looked at the rainbow for a long time."),
        ),
        cases=(
            {"game": "sing songs", "gamed": "sang songs"},
            {"game": "tell stories", "gamed": "told stories"},
            {"game": "count the raindrops", "gamed": "counted the raindrops"},
            {"game": "play hide and seek", "gamed": "played hide and seek"},
            {"game": "make up riddles", "gamed": "made up riddles"},
        ),
    ),
    Plot(
        "lonely",
        1,
        starts=(
            "{First} had no friends.",
            "{First} moved to a new town and had no one to play with.",
            "{First} was always alone.",
        ),
        beats=(
            ("{Hero} had no friends to play with.", "{Hero} was always alone.", "{Hero} was lonely."),
            ("Every day, {he} went to {place} and played alone.", "One {weather} day, {he} sat alone at {place}.", "One day, {he} went to {place}, but no one was there."),
            ("Then {he} saw {ffirst} {found}.", "Just then, {ffirst} came by.", "There {he} met {ffirst}."),
            ("{Friend} was shy and did not say a word.", "{Friend} looked lonely too.", "{Friend} looked at {hero} but stayed far away."),
            ("{Hero} smiled and said, \"Hello! Do you want to play with me?\"", "\"Hi! I am {hcall},\" said {hero}. \"What is your name?\"", "{Hero} held out {a_food}. \"Would you like to eat with me?\" {he} asked."),
            ("{Friend} smiled. \"Yes, I would like that,\" {fhe} said.", "{Friend} nodded. \"I was looking for a friend too,\" {fhe} said.", "\"I would love to!\" said {friend}."),
            ("They {gamed} until the sun went down.", "All day long, they {gamed}."),
            ("\"See you tomorrow!\" said {hero}. {He} was not lonely anymore.", "\"Let us play again tomorrow,\" said {friend}. {Hero} was very happy.", "Now {hero} had a friend."),
        ),
        cases=(
            {"gamed": "played tag"}, {"gamed": "played hide and seek"}, {"gamed": "sang and danced"},
            {"gamed": "rolled down the hill"}, {"gamed": "picked flowers"}, {"gamed": "looked for pretty stones"},
        ),
    ),
    Plot(
        "seed",
        1,
        starts=(
            "{First} found a tiny seed.",
            "One spring day, {first} found a tiny seed {found}.",
            "{Elder} gave {first} a tiny seed.",
        ),
        beats=(
            ("One spring day, {hero} found a tiny seed.", "One day, {elder} gave {him} a small seed.", "One morning, a bird dropped a tiny seed in front of {hero}."),
            ("{He} planted it in the ground [near {his} house|in the garden].", "\"What will it become?\" {he} said, and planted it in the garden."),
            ("Every day, {he} gave it water. But nothing happened.", "{He} watered it every morning, but nothing came up.", "One day passed, then two days. Still nothing grew."),
            ("\"Why does it not grow?\" asked {hero}.", "{Hero} was sad. \"Maybe the seed is asleep,\" {he} said."),
            ("\"Be patient,\" said {elder}. \"Good things take time.\"", "{Elder} smiled. \"Wait a little more,\" {ehe} said."),
            ("So {hero} waited and [sang to the seed every day|watered it every day|took good care of it].",),
            ("Then one morning, a green leaf came up!", "At last, a small green sprout came out of the ground!"),
            ("It grew and grew, and became {plant:a}.", "By summer, it was {plant:a}."),
            ("{Share}.",),
            ("\"It was good to wait,\" said {hero}.", "{Hero} was proud of the {plant}.", ""),
        ),
        cases=(
            {"plant": "tall sunflower", "share": "{Hero} gave the new seeds to all {his} friends"},
            {"plant": "big apple tree", "share": "{Hero} shared the red apples with {ffirst}"},
            {"plant": "huge pumpkin", "share": "{Hero} and {ffirst} made pumpkin soup for everyone"},
            {"plant": "pretty rose", "share": "{Hero} gave a rose to {elder}"},
            {"plant": "strawberry plant", "share": "{Hero} and {ffirst} ate the sweet strawberries together"},
        ),
    ),
    Plot(
        "learning",
        1,
        starts=(
            "{First} wanted to learn to {skill}.",
            "{First} could not {skill}, and {he} was sad about it.",
            "\"I want to {skill}!\" said {first}.",
        ),
        beats=(
            ("{Hero} wanted to learn to {skill}.", "All the others could {skill}, but {hero} could not.", "{Hero} had a dream. {He} wanted to {skill}."),
            ("One {weather} day, {he} went to {where} and tried. {Fail}.", "One day, {he} tried it at {where}. But {fail}."),
            ("{Hero} tried again, but it did not work.", "{He} tried once more. It was no use.", "{He} tried two times, three times. It was too hard."),
            ("\"I will never learn it,\" {he} said [sadly|and began to cry].", "\"It is too hard for me,\" said {hero}."),
            ("{Ffirst} saw {him}. \"Don't give up! {tip}\"", "\"{tip}\" said {ffirst}. \"I will help you.\"", "{Elder} came and said, \"{tip} You can do it.\""),
            ("{Hero} practiced every day.", "{Hero} tried again and again, day after day.", "So {hero} practiced from morning till night."),
            ("And then, one day, {success}!", "At last, {success}!"),
            ("\"I can {skill}!\" {he} shouted with joy.", "Everyone clapped for {him}.", "\"You did it!\" said everyone."),
        ),
        cases=(
            {"skill": "swim", "where": "the lake", "fail": "{he} swallowed a lot of water", "tip": "Kick your legs slowly.", "success": "{he} swam across the lake"},
            {"skill": "ride a bike", "where": "the park", "fail": "{he} fell off the bike", "tip": "Look ahead, not down.", "success": "{he} rode the bike all around the park"},
            {"skill": "sing", "where": "the hill", "fail": "only a squeak came out", "tip": "Open your mouth wide.", "success": "{he} sang a beautiful song"},
            {"skill": "dance", "where": "the square", "fail": "{he} tripped over {his} own feet", "tip": "Listen to the music first.", "success": "{he} danced like a leaf in the wind"},
            {"skill": "skate", "where": "the frozen pond", "fail": "{he} fell on the ice", "tip": "Bend your knees a little.", "success": "{he} skated around the pond"},
            {"skill": "whistle", "where": "the gate", "fail": "only air came out", "tip": "Make your lips small and round.", "success": "{he} whistled a happy tune"},
        ),
    ),
    Plot(
        "magic",
        1,
        starts=(
            "{First} found a magic {charm} {found}.",
            "One day, {first} picked up an old {charm}. It was magic!",
            "\"What is this?\" said {first}. It was a shiny {charm}.",
        ),
        beats=(
            ("One day, {hero} went to {place} and found an old {charm} {found}.", "One {weather} day, {he} saw something shiny {found} at {place}. It was {charm:a}."),
            ("\"I am a magic {charm},\" it said. \"I will give you one wish.\"", "The {charm} began to shine. \"Make one wish,\" said a soft voice."),
            ("{Hero} thought hard. {He} could wish for {dream}.", "At first, {hero} wanted {dream}."),
            ("Then {he} thought of {ffirst}. {Friend} was {need}.", "But then {he} thought of {ffirst}, who was {need}."),
            ("\"I wish that {friend} {wish},\" said {hero}.",),
            ("The {charm} shone brightly. And {friend} {result}!", "There was a flash of light, and {friend} {result}!"),
            ("{Friend} was so happy. \"Thank you, {hcall}!\" {fhe} said.", "\"It is a miracle!\" cried {friend}."),
            ("{Hero} had no wish left, but {he} was happy.", "The {charm} was gone, but {hero} was glad.", "\"That was the best wish,\" said {hero}."),
        ),
        cases=(
            {"charm": "lamp", "dream": "a mountain of candy", "need": "sick in bed", "wish": "will get well", "result": "got out of bed and laughed"},
            {"charm": "ring", "dream": "a golden crown", "need": "far from home", "wish": "can go home", "result": "was home with the family"},
            {"charm": "stone", "dream": "a house full of toys", "need": "cold and had no coat", "wish": "will be warm", "result": "had a warm coat"},
            {"charm": "bell", "dream": "a big castle", "need": "hungry", "wish": "will have enough to eat", "result": "had a table full of food"},
            {"charm": "feather", "dream": "a bag of gold", "need": "sad and all alone", "wish": "will smile again", "result": "smiled again"},
        ),
    ),
    Plot(
        "race",
        1,
        starts=(
            "{First} was very fast and told everyone about it.",
            "\"I am the fastest of all!\" said {first}.",
            "{First} liked to boast. \"I am the fastest of all!\" {he} said.",
        ),
        beats=(
            ("{Hero} was very fast. \"No one can beat me,\" {he} always said.", "{Hero} was proud because {he} could run fast."),
            ("One day, {ffirst} said, \"Let us have a race to {goal}.\"", "One {weather} day, {hero} and {ffirst} had a race to {goal}."),
            ("{Hero} laughed. \"You are too slow!\" {he} said.", "\"I will win easily,\" said {hero}.", "Everyone came to watch."),
            ("Ready, set, go! {Hero} ran ahead like the wind.", "They started. {Hero} was soon far ahead."),
            ("On the way, {hero} stopped to {pause}.", "\"I have a lot of time,\" {he} thought. So {he} stopped to {pause}."),
            ("But {friend} did not stop. Step by step, {fhe} went on.", "{Friend} was slow, but {fhe} never stopped."),
            ("When {hero} looked up, {friend} was already at {goal}!", "{Hero} ran as fast as {he} could, but it was too late. {Friend} won the race!"),
            ("\"You are great, {fcall},\" said {hero}. \"I am sorry that I laughed.\"", "{Hero} learned not to boast.", "{Hero} shook {fhis} hand. \"Good job!\" {he} said."),
        ),
        cases=(
            {"goal": "the big oak tree", "pause": "take a nap"}, {"goal": "the red bridge", "pause": "eat some berries"},
            {"goal": "the top of the hill", "pause": "chase a butterfly"}, {"goal": "the old mill", "pause": "look at {his} face in the pond"},
        ),
    ),
    Plot(
        "bedtime",
        1,
        starts=(
            "{First} could not sleep.",
            "It was late at night, but {first} was still awake.",
            "\"I can't sleep,\" said {first}.",
        ),
        beats=(
            ("One night, {hero} could not sleep.", "One night, {he} lay in bed with open eyes."),
            ("{He} turned left. {He} turned right. But sleep did not come.", "{He} counted to ten, but {he} was still awake."),
            ("{He} got up and went to {elder}. \"I can't sleep,\" {he} said.", "\"{Ecall}, I can't sleep,\" {he} said."),
            ("{Elder} {soothe}.",),
            ("Outside, the moon was [big and round|bright|smiling]. Everything was quiet.", "The stars twinkled in the sky.", ""),
            ("{Hero} listened, and {his} eyes grew heavy.", "{Hero} yawned. {His} eyes began to close."),
            ("\"Good night,\" whispered {elder}.", "\"Good night, {ecall},\" said {hero} softly."),
            ("Soon {he} was fast asleep and dreamed of {dream}.", "{He} fell asleep and had a dream about {dream}."),
        ),
        cases=(
            {"soothe": "sang a soft song", "dream": "flying over the clouds"}, {"soothe": "told a story about the moon", "dream": "walking on the moon"},
            {"soothe": "gave {him} a cup of warm milk", "dream": "a river of milk"}, {"soothe": "showed {him} the stars", "dream": "playing with the stars"},
            {"soothe": "told a story about a whale", "dream": "swimming with a whale"},
        ),
    ),
)
